# The toolkit for CPUs: PyTorch, torchvision and timm (the extra `vision`), pictures and reports. Without PyTorch, leave out
# `vision`; the image is then half as large, and has the commands for the corpus.
#
# PyTorch for Linux comes with libraries for GPUs, which take gigabytes; the builds for CPUs have an index of their own,
# which https://pytorch.org/get-started states: `docker build --build-arg PIP_EXTRA_INDEX_URL=INDEX ...`.
#
#   docker build -t deepnets .
#   docker run --rm -v "$PWD:/work" deepnets build --train-size 20,000
#   docker run --rm -v "$PWD:/work" deepnets bench --limit 6
FROM python:3.11-slim

RUN useradd --create-home user
COPY . /source
ARG PIP_EXTRA_INDEX_URL=""
RUN pip install --no-cache-dir --constraint /source/constraints.txt "/source[vision,plotting,parquet,onnx]" \
    && rm -rf /source

USER user
ENV NUMBA_CACHE_DIR=/home/user/.cache/numba
# Compile the numeric code into the image.
RUN deepnets build --splits val --out /tmp/compiled --quiet && rm -rf /tmp/compiled

WORKDIR /work
ENTRYPOINT ["deepnets"]
CMD ["--help"]
