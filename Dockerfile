# One image for every process of the coordinator; docker-compose.yml says which command each one runs.
FROM python:3.11-slim-bookworm

RUN useradd --system --create-home --uid 10001 fedslice
WORKDIR /fedslice
COPY requirements.txt requirements-site.txt requirements-coordinator.txt ./
COPY .ci/install-torch.sh .ci/install-torch.sh
RUN bash .ci/install-torch.sh python && python -m pip install --no-cache-dir --requirement requirements.txt
COPY manage.py ./
COPY federation federation
COPY enclave_jobs enclave_jobs
COPY frontend frontend
COPY contracts contracts
COPY attestation attestation
COPY transparency_log transparency_log
COPY error_catalogue error_catalogue
COPY outgoing outgoing
COPY enclave enclave
COPY enclave_host enclave_host
RUN mkdir -p /state /blobs && chown fedslice /state /blobs \
    && FEDSLICE_STATE=/tmp/build FEDSLICE_STATIC=/fedslice/static \
       python manage.py collectstatic --noinput --verbosity 0 && rm -rf /tmp/build
USER fedslice
ENV FEDSLICE_STATE=/state FEDSLICE_STATIC=/fedslice/static PYTHONUNBUFFERED=1
EXPOSE 8000
