# sft on CPUs: docker build -t sft . && docker run --rm -v "$PWD:/work" sft check demonstrations.jsonl
# For NVIDIA GPUs: --build-arg TORCH= takes the index's own build of torch, which brings CUDA (several GB).
FROM python:3.11-slim

ARG TORCH="--index-url https://download.pytorch.org/whl/cpu"
ENV PIP_NO_CACHE_DIR=1 HF_HUB_DISABLE_TELEMETRY=1 SFT_CACHE=/work/.cache/sft

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
WORKDIR /work
ENTRYPOINT ["sft"]
