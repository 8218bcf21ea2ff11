# One image for every process of the coordinator; docker-compose.yml says which command each one runs.
# From images.env, with its digest: docker build --build-arg IMAGE_PYTHON=…
ARG IMAGE_PYTHON
FROM ${IMAGE_PYTHON}

RUN useradd --system --create-home --uid 10001 fedslice
WORKDIR /fedslice
COPY requirements-coordinator.lock ./
# These bytes or nothing; torch's CPU wheel is on PyTorch's own index.
RUN python -m pip install --no-cache-dir --require-hashes --requirement requirements-coordinator.lock \
    --extra-index-url https://download.pytorch.org/whl/cpu
COPY manage.py ./
COPY federation federation
COPY enclave_jobs enclave_jobs
COPY frontend frontend
COPY contracts contracts
COPY attestation attestation
COPY transparency_log transparency_log
COPY error_catalogue error_catalogue
COPY outgoing outgoing
COPY privacy_accounting privacy_accounting
COPY translations translations
COPY manifest_summary manifest_summary
COPY enclave enclave
COPY enclave_host enclave_host
RUN mkdir -p /state /blobs && chown fedslice /state /blobs \
    && FEDSLICE_STATE=/tmp/build FEDSLICE_STATIC=/fedslice/static \
       python manage.py collectstatic --noinput --verbosity 0 && rm -rf /tmp/build
USER 10001
ENV FEDSLICE_STATE=/state FEDSLICE_STATIC=/fedslice/static PYTHONUNBUFFERED=1
EXPOSE 8000
