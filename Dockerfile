# sft on CPUs: docker build -t sft . && docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/work" sft check demonstrations.jsonl
# The folder that is mounted as /work is all that is read and written: models and data that are downloaded stay in its
# .cache, and belong to whoever --user names. For NVIDIA GPUs: --build-arg TORCH= takes the index's own build of torch,
# which brings CUDA (several GB), and `docker run --gpus all`. Tested by .ci/image.
FROM python:3.11-slim

ARG TORCH="--index-url https://download.pytorch.org/whl/cpu"
ENV PIP_NO_CACHE_DIR=1 HF_HUB_DISABLE_TELEMETRY=1

WORKDIR /src
COPY constraints.txt ./
RUN python -m pip install ${TORCH} "$(grep '^torch==' constraints.txt)"
COPY pyproject.toml README.md LICENSE ./
COPY sft ./sft
COPY recipes ./recipes
COPY data ./data
RUN python -m pip install -c constraints.txt ".[completion]" && rm -rf /src
RUN useradd --create-home --uid 1000 clone
# By its number, for Kubernetes cannot tell from a name that it is not root.
USER 1000
# For a --user whom the image does not know: no home of his own, and a name that programs may ask for.
ENV SFT_CACHE=/work/.cache/sft HF_HOME=/work/.cache/huggingface HOME=/tmp USER=clone
WORKDIR /work
ENTRYPOINT ["sft"]
