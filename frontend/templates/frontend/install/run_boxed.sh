mkdir -p "$HOME/fedslice-data" &&
docker run -d --name fedslice-agent --restart unless-stopped --read-only --tmpfs /tmp --cap-drop ALL \
  --security-opt no-new-privileges -v fedslice-site:/state -v "$HOME/fedslice-data:/data:ro" fedslice-site
