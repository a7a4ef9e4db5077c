# Everything is made in .venv, .venvs, build and dist; nothing but Python 3 and make need be there.

PYTHON  ?= python3
#: Of `make test-all`: the versions to run on, such as "3.9 3.13"; all if empty. Of `make test-as-user`: one of them.
PYTHONS ?=
VENV    ?= .venv
EXTRAS  ?= test,lint,demo

BIN := $(VENV)/bin
PIP := -m pip --disable-pip-version-check install -qq --use-pep517
# Names what the environment was made with, so that another choice makes it anew.
READY := $(VENV)/ready-$(subst /,_,$(PYTHON))-$(EXTRAS)

# The package as a container has it: built, not linked to; with what it needs to run and nothing else.
BENCH := .venvs/benchmark
PACKAGE := setup.cfg pyproject.toml README.md LICENSE $(shell find sagemaker_framework -name '*.py')

# The wheel is made in an environment of its own, since not every Python has pip.
WHEEL := .venvs/wheel

# What jobs on several hosts run: Debian's Open MPI, which is version 4, sshd, and what makes hosts.
CLUSTER := .venvs/cluster
CLUSTER_TOOLS := /usr/bin/mpirun /usr/sbin/sshd /usr/bin/ssh /usr/bin/nsenter /usr/sbin/ip

# What makes base images, builds images and runs containers, without a daemon or a registry.
IMAGE_TOOLS := /usr/bin/buildah /usr/bin/podman /usr/sbin/runc /usr/bin/mmdebstrap /usr/bin/nsenter /usr/sbin/ip

# Frameworks get an environment each: they do not agree on numpy.
MXNET := .venvs/mxnet
TENSORFLOW := .venvs/tensorflow

.PHONY: help
help:
	@echo 'make test           run the tests with $$PYTHON (python3)'
	@echo 'make test-as-user   run them as an ordinary user, in a copy of the checkout; as root'
	@echo 'make test-all       run them on each Python that is installed, or on $$PYTHONS'
	@echo 'make simulate       simulate $$SEEDS (10000) jobs on several hosts, in which anything goes wrong; or the job of $$SEED'
	@echo 'make test-mutants   plant faults in the protocol, which the simulator has to find'
	@echo 'make sweep          ask jobs to stop at $$MOMENTS (40) moments of their lives, and check what they say'
	@echo 'make test-cluster   run those on several hosts, as root'
	@echo 'make cluster-tools  install what they need, with apt-get'
	@echo 'make test-frameworks  run those of the examples that train with MXNet and TensorFlow, as root'
	@echo 'make test-images    build the images of the examples and run jobs in containers, as root'
	@echo 'make image-tools    install what that needs, with apt-get'
	@echo 'make image-mxnet, make image-tensorflow  build one of them with $$DOCKER (docker)'
	@echo 'make coverage       measure which lines and branches the tests run, and check the limits; as root'
	@echo 'make lint           check style, format and types'
	@echo 'make wheel          build dist/*.whl, which is what an image installs'
	@echo 'make demo           train a real model through the real train command'
	@echo 'make benchmark      measure, and check the limits that the project promises'
	@echo 'make clean          remove everything that make has made'

.PHONY: test
test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

.PHONY: test-all
test-all:
	@$(PYTHON) tests/kit/every_python.py $(PYTHONS)

# The user is made for it, and removed with all that it has.
.PHONY: test-as-user
test-as-user:
	@unshare --mount $(PYTHON) tests/kit/ordinary_user.py $(PYTHONS)

# Of one seed, the timeline; of many, what they covered. $(ARGS): --first, --processes.
SEEDS ?= 10000
.PHONY: simulate
simulate: $(READY)
	$(BIN)/python tests/simulation/simulate.py $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(ARGS)

# Each fault that is planted in the protocol has to be found.
.PHONY: test-mutants
test-mutants: $(READY)
	$(BIN)/python -m pytest -m mutants tests/simulation $(ARGS)

# SIGTERM at so many moments of jobs on one host, and on three, for which it takes root.
MOMENTS ?= 40
.PHONY: sweep
sweep: $(READY)
	$(BIN)/python tests/kit/sweep.py --moments $(MOMENTS) $(ARGS)

# Hosts are made by root only; elsewhere these tests are skipped.
.PHONY: test-cluster
test-cluster: $(CLUSTER)/ready-$(subst /,_,$(PYTHON))
	$(CLUSTER)/bin/python -m pytest -m cluster $(ARGS)

# The tests of `make test` and `make test-cluster` without those of faults, in four processes at once, since they wait more
# than they work. A test that fails in this crowd has to pass alone. Not measured: what looks at everything that a process
# does, and would see coverage itself, and what runs the same lines a hundred times over. The .pth file is by which
# processes find what measures the wrapper of ranks.
MEASURED := -m "not fault and not mutants and not frameworks and not images" $(addprefix --deselect=tests/, \
	one_host/test_environment.py::test_importing_does_nothing \
	one_host/test_environment.py::test_reading_starts_no_process \
	one_host/test_arguments_arrive.py::test_every_hyperparameter_arrives \
	cluster/test_recipes.py)
.PHONY: coverage
coverage: export COVERAGE_ROOT := $(CURDIR)
coverage: $(CLUSTER)/ready-$(subst /,_,$(PYTHON))
	rm -rf .venvs/coverage
	mkdir -p .venvs/coverage
	echo $(CURDIR)/tests/kit/measure > $$($(CLUSTER)/bin/python -c 'import site; print(site.getsitepackages()[0])')/a0_measured.pth
	tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
		$(CLUSTER)/bin/python -m coverage run -m pytest -n 4 --basetemp="$$tmp" $(MEASURED) $(ARGS) \
		|| $(CLUSTER)/bin/python -m coverage run -m pytest --last-failed --last-failed-no-failures=none $(MEASURED)
	$(CLUSTER)/bin/python -m coverage combine -q
	$(CLUSTER)/bin/python tests/kit/measure/limits.py

# On hosts like those of `make test-cluster`.
.PHONY: test-frameworks test-mxnet test-tensorflow
test-frameworks: test-mxnet test-tensorflow

test-mxnet: $(MXNET)/ready-$(subst /,_,$(PYTHON))
	$(MXNET)/bin/python -m pytest -m frameworks tests/frameworks/test_mxnet.py $(ARGS)

test-tensorflow: $(TENSORFLOW)/ready-$(subst /,_,$(PYTHON))
	$(TENSORFLOW)/bin/python -m pytest -m frameworks tests/frameworks/test_tensorflow.py $(ARGS)

.PHONY: cluster-tools
cluster-tools:
	@ls $(CLUSTER_TOOLS) > /dev/null 2>&1 || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install \
		-qq -y --no-install-recommends openmpi-bin openssh-server openssh-client iproute2 util-linux; }

# Built, from Debian's packages and PyPI's, and run where nothing of the machine's own containers is touched.
.PHONY: test-images
test-images: $(READY)
	$(BIN)/python -m pytest -m images tests/images/test_images.py $(ARGS)

.PHONY: image-tools
image-tools:
	@ls $(IMAGE_TOOLS) > /dev/null 2>&1 || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install \
		-qq -y --no-install-recommends buildah podman runc mmdebstrap debian-archive-keyring iproute2 util-linux; }

.PHONY: wheel
wheel: dist/.ready
	@ls dist/*.whl

# With sagemaker-framework as it is here; $(ARGS) are more arguments of `docker build`.
DOCKER ?= docker
.PHONY: image-mxnet image-tensorflow
image-mxnet image-tensorflow: image-%: dist/.ready
	rm -rf examples/$*/wheels
	mkdir examples/$*/wheels
	cp dist/*.whl examples/$*/wheels
	$(DOCKER) build --tag $*-training $(ARGS) examples/$*

.PHONY: lint
lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: demo
demo: $(READY)
	$(BIN)/python examples/digits/demo.py

.PHONY: benchmark benchmark-size benchmark-launch benchmark-relay benchmark-protocol benchmark-cluster benchmark-mpi
benchmark: benchmark-size benchmark-launch benchmark-relay benchmark-protocol benchmark-cluster benchmark-mpi

benchmark-size: $(BENCH)/ready
	$(BENCH)/bin/python benchmarks/install_size.py --max-mb 45 --max-distributions 11 dist/*.whl

benchmark-launch: $(BENCH)/ready
	$(BENCH)/bin/python benchmarks/launch_overhead.py --max-ratio 6 --max-mib 25

benchmark-relay: $(BENCH)/ready
	$(BENCH)/bin/python benchmarks/log_relay.py --min-ratio 0.7

benchmark-protocol: $(BENCH)/ready
	$(BENCH)/bin/python benchmarks/protocol_scale.py --max-ratio 1.3

benchmark-cluster: $(BENCH)/ready
	$(BENCH)/bin/python benchmarks/cluster_scale.py --max-cpu-ms 2 --max-kib 16

# By Debian's Open MPI, version 4, and by PyPI's, version 5; as root, after `make cluster-tools`.
HOSTS ?= 2 8 32
benchmark-mpi: $(CLUSTER)/ready-$(subst /,_,$(PYTHON))
	PATH=/usr/bin:$$PATH MPI4PY_LIBMPI=$$(ls /usr/lib/*/libmpi.so.40) \
		$(CLUSTER)/bin/python benchmarks/mpi.py --hosts $(HOSTS) --max-ratio 1.3 --max-exit 1
	PATH=$(CURDIR)/$(CLUSTER)/bin:$$PATH MPI4PY_LIBMPI=$(CURDIR)/$(CLUSTER)/lib/libmpi.so.40 \
		$(CLUSTER)/bin/python benchmarks/mpi.py --hosts $(HOSTS) --max-ratio 1.3 --max-exit 1

.PHONY: clean
clean:
	rm -rf .venv .venvs build dist *.egg-info examples/*/wheels .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# Each is touched last: what broke off half-way is made again.

$(READY): setup.cfg
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python $(PIP) --config-settings editable_mode=compat --editable '.[$(EXTRAS)]'
	@touch $@

# Named after the extra that it has beside those for tests.
.venvs/%/ready-$(subst /,_,$(PYTHON)): setup.cfg
	$(PYTHON) -m venv --clear .venvs/$*
	.venvs/$*/bin/python $(PIP) --config-settings editable_mode=compat --editable '.[test,$*]'
	@touch $@

dist/.ready: $(PACKAGE)
	rm -rf build dist
	$(PYTHON) -m venv --clear $(WHEEL)
	$(WHEEL)/bin/python -m pip --disable-pip-version-check wheel -qq --no-deps --wheel-dir dist .
	@touch $@

$(BENCH)/ready: dist/.ready
	$(PYTHON) -m venv --clear $(BENCH)
	$(BENCH)/bin/python $(PIP) dist/*.whl
	@touch $@
