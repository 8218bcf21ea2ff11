{% autoescape off %}( set -eu; umask 077
mkdir -p "$HOME/fedslice"; cd "$HOME/fedslice"
# Your proxy and your own authority, where there are any (take the # away):
# export HTTPS_PROXY=http://proxy.hospital.example:3128
# export CURL_CA_BUNDLE=/etc/ssl/hospital.pem
get() { curl --fail --silent --show-error --proto '=https{{ plain }}' --output "$1" "{{ url }}/install/$1"; }
printf 'Fingerprint of the release key, from the letter or the project (SHA256:...): '
read -r FINGERPRINT < /dev/tty
get release.pub; get SHA256SUMS; get SHA256SUMS.sig
read -r KIND KEY REST < release.pub
printf '%s %s\n' "$KIND" "$KEY" > key.pub
printf 'release %s %s\n' "$KIND" "$KEY" > signers
[ "$(ssh-keygen -lf key.pub | cut -d ' ' -f 2)" = "$FINGERPRINT" ] || { echo 'Another key: nothing was installed.'; exit 1; }
ssh-keygen -Y verify -f signers -I release -n fedslice-wheelhouse -s SHA256SUMS.sig < SHA256SUMS
cut -c 67- SHA256SUMS | while read -r FILE; do get "$FILE"; done
sha256sum --check --strict --quiet SHA256SUMS
{{ then }}
){% endautoescape %}
