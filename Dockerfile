# The toolkit for CPUs: PyTorch, torchvision and timm (the extra `vision`), pictures and reports. Without PyTorch, leave out
# `vision` and the index of PyTorch; the image is then half as large, and has the commands for the corpus.
#
#   docker build -t deepnets .
#   docker run --rm -v "$PWD:/work" deepnets build --train-size 20,000
#   docker run --rm -v "$PWD:/work" deepnets bench --limit 6
FROM python:3.11-slim

RUN useradd --create-home user
COPY . /source
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
      --constraint /source/constraints.txt "/source[vision,plotting,parquet,onnx]" \
    && rm -rf /source

USER user
ENV NUMBA_CACHE_DIR=/home/user/.cache/numba
# Compile the numeric code into the image.
RUN deepnets build --splits val --out /tmp/compiled --quiet && rm -rf /tmp/compiled

WORKDIR /work
ENTRYPOINT ["deepnets"]
CMD ["--help"]
