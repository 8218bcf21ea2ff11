#!/usr/bin/env bash
# What the tests use of Debian: Chromium for the journeys (its headless shell does, too), PostgreSQL and Redis for the
# real-engines test, nginx and Caddy for the proxies' examples, erofs-utils and cryptsetup-bin for a trust domain's
# image, SoftHSM for a key on a token, Prometheus' promtool for the alert rules.
set -euo pipefail
missing=()
command -v chromium-headless-shell chromium >/dev/null || missing+=(chromium)
command -v nginx >/dev/null || missing+=(nginx-light)
command -v caddy >/dev/null || missing+=(caddy)
command -v redis-server >/dev/null || missing+=(redis-server)
compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null || missing+=(postgresql)
command -v mkfs.erofs >/dev/null || missing+=(erofs-utils)
[ -x /usr/sbin/veritysetup ] || missing+=(cryptsetup-bin)
[ -e /usr/lib/softhsm/libsofthsm2.so ] || missing+=(softhsm2)
command -v promtool >/dev/null || missing+=(prometheus)
ldconfig -p | grep -q libseccomp.so.2 || missing+=(libseccomp2)
[ "${#missing[@]}" = 0 ] && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  # Packages must not start servers of their own.
  export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
  # Another apt (a machine's own updates at boot) may hold the lock: wait for it. Its lists' lock knows no time-out.
  for try in $(seq 60); do
    apt-get update -qq && break
    [ "$try" -lt 60 ] || exit 1
    echo "apt-get update failed (another apt may run): again in 5 s" >&2
    sleep 5
  done
  apt-get install -o DPkg::Lock::Timeout=300 -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "The tests need Debian's ${missing[*]}: apt-get install ${missing[*]}" >&2
  exit 1
fi
