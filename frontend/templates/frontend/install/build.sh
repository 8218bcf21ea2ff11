docker build -f Dockerfile.site -t fedslice-site \
  --build-arg "IMAGE_PYTHON=$(sed -n 's/^IMAGE_PYTHON=\([^ ]*\).*/\1/p' images.env)" .
docker volume create fedslice-site >/dev/null
