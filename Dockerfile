# The course in a container: JupyterLab on its notebooks. docs/install.md says how to start it.
#   docker build -t grpo-course .                                for any machine, on its CPU
#   docker build -t grpo-course:cuda --build-arg TORCH=cuda .    for an NVIDIA GPU
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS wheel
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:${PYTHON}-slim-bookworm
# cpu: torch's CPU build, 0.2 GB. cuda: the default build, several GB, with bitsandbytes, and with the compiler
# that Triton needs to compute TRL's loss on a card.
ARG TORCH=cpu
# hadolint ignore=DL3008
RUN case "$TORCH" in \
      cpu) ;; \
      cuda) apt-get update \
        && apt-get install --yes --no-install-recommends gcc libc6-dev \
        && rm -rf /var/lib/apt/lists/* ;; \
      *) echo "TORCH is $TORCH; it must be cpu or cuda" >&2; exit 2 ;; \
    esac

# The packages first: a change of a notebook does not install them again.
WORKDIR /tmp/course
COPY pyproject.toml constraints.txt ./
RUN python -c 'import tomllib; \
      project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
      gpu = project["optional-dependencies"]["gpu"] if "'"$TORCH"'" == "cuda" else []; \
      print(*project["dependencies"], *gpu, sep="\n")' > requirements.txt \
    && if [ "$TORCH" = cpu ]; then export PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu; fi \
    && pip install --no-cache-dir -r requirements.txt -c constraints.txt

COPY --from=wheel /dist /tmp/course/dist
RUN pip install --no-cache-dir --no-deps dist/*.whl && useradd --create-home --uid 1000 learner

USER 1000
WORKDIR /home/learner
RUN grpo-course init grpo-course && mkdir grpo-course/runs
WORKDIR /home/learner/grpo-course
EXPOSE 8888
CMD ["grpo-course", "lab", "--ip=0.0.0.0", "--no-browser"]
