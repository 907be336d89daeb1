# Everything that a person or CI runs here. `make` alone prints this list of targets.
# Works with GNU make 3.81 (macOS) and later, and a POSIX shell.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# Python 3.11 or later. `make test PYTHON=/path/to/python3.11` chooses another one.
PYTHON ?=
PHOTO ?= build/sample.jpg
# For make apk; the bundled one.
MODEL ?=
# More arguments for pytest: make test PYTEST_ARGS="-m 'not tf' -x"
PYTEST_ARGS ?=
# Two processes, which take tests from each other when one runs out. WORKERS= runs all in one, as for --pdb.
WORKERS ?= -n 2 --dist worksteal
# 1 to 4, commit or all.
QUARTER ?= commit
# make lock LOCK_ARGS=--upgrade takes the newest versions; without it only what pyproject.toml requires is changed.
LOCK_ARGS ?=

DEMO := .venv-demo
DEV := .venv
WHEEL_VENV := build/venv-wheel
PIPELINE := build/pipeline
PI := build/pi
VULKAN := build/vulkan
MEDIAPIPE := build/venv-mediapipe
TORCH := build/venv-torch
NEWEST := build/venv-newest
# Enough to see that every start-up trick has its fallback.
PLAIN_TESTS := tests/edge_runtime/test_classifier.py tests/edge_runtime/cli tests/edge_runtime/images tests/parity

demo_ready := $(DEMO)/ready
dev_ready := $(DEV)/ready
mediapipe_ready := $(MEDIAPIPE)/ready
torch_ready := $(TORCH)/ready
PY := $(DEV)/bin/python
litert_library = $(PY) -c 'from edge_runtime.engines.litert_c import find_library; print(find_library()[0])'
# Named, or copied into the app, or the bundled one.
apk_model = $${DERMEDGE_MODEL:-$$(ls android_sample/app/src/main/assets/model/*.tflite 2>/dev/null || $(bundled_model))}
bundled_model = $(PY) -c 'from edge_runtime.model.model_file import bundled_model_path; print(bundled_model_path())'
# What the runtime requires and its tests need, without the locks.
newest_requirements = import re, tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	extras = project["optional-dependencies"]; names = {"numpy", "pytest", "pytest-xdist", "jsonschema"}; \
	print(*project["dependencies"], *(line for line in extras["train"] + extras["dev"] if re.split("[<>=]", line)[0] in names), sep="\n")

# The raw text reaches the shell by the environment, so spaces, quotes and dollars in a path are safe.
export DERMEDGE_PHOTO := $(value PHOTO)
export DERMEDGE_MODEL := $(value MODEL)

.PHONY: help demo setup test test-all test-long test-long-python test-newest mediapipe test-torch check pipeline wheel bench fuzz test-pi test-gpu test-android apk test-app lock clean

help: ## This list
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16

demo: $(demo_ready) build/sample.jpg ## Install the runtime alone (under 160 MB) and classify a photo: make demo PHOTO=mole.jpg
	@echo "$(DEMO)/bin/edge-classify $$DERMEDGE_PHOTO"
	@$(DEMO)/bin/edge-classify -- "$$DERMEDGE_PHOTO"

setup: $(dev_ready) ## Install everything (TensorFlow too) into .venv, from the lock

test: $(dev_ready) ## Tests of everything that a change can break, on two cores (8 minutes); PYTEST_ARGS="-m 'not tf'" for less
	$(PY) -m pytest $(WORKERS) $(PYTEST_ARGS)

test-all: test ## Every test there is: make test, then the long tier (over an hour; what it downloads, in build/)
	$(PY) -m tests.long_tier

test-long: $(dev_ready) ## A quarter of the long tier: make test-long QUARTER=2; without it, the one that the commit's hash chooses
	$(PY) -m tests.long_tier --quarter $(QUARTER)

test-long-python: $(dev_ready)
	$(PY) -m pytest $(WORKERS) --tier=long $(PYTEST_ARGS)

check: $(dev_ready) ## Linter, formatter, types, architecture
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q -m "not slow" tests/architecture

pipeline: $(dev_ready) ## The whole pipeline on generated photos: draw, train, convert, classify (minutes)
	rm -rf $(PIPELINE)
	mkdir -p $(PIPELINE)
	$(DEV)/bin/dermedge experiment synthetic --photos 1000 --out $(PIPELINE)/photos
	$(DEV)/bin/dermedge train train/configs/phantom.toml --workdir $(PIPELINE)/run --data $(PIPELINE)/photos
	$(DEV)/bin/dermedge convert $(PIPELINE)/run --recipe int8_qat --out $(PIPELINE)/phantom.tflite
	$(DEV)/bin/dermedge experiment synthetic --sample $(PIPELINE)/sample.jpg
	$(DEV)/bin/edge-classify --model $(PIPELINE)/phantom.tflite --json $(PIPELINE)/sample.jpg

mediapipe: $(dev_ready) $(mediapipe_ready) ## MediaPipe Tasks opens the bundled model and predicts the same (120 MB to download)
	DERMEDGE_MEDIAPIPE_PYTHON=$(MEDIAPIPE)/bin/python $(PY) -m pytest tests/convert/test_mediapipe.py $(PYTEST_ARGS)

test-torch: $(dev_ready) $(torch_ready) ## Training with PyTorch, for machines with a GPU, against TensorFlow's (2.5 GB to download)
	DERMEDGE_TORCH_PYTHON=$(TORCH)/bin/python $(PY) -m pytest --tier=all tests/train/experiments/torch/test_loop.py $(PYTEST_ARGS)

test-newest: $(dev_ready) ## The runtime on the newest Pillow, ai-edge-litert and numpy that pyproject.toml allows (60 MB to download)
	@$(find_python); [ -x $(NEWEST)/bin/python ] || $$python -m venv --without-pip $(NEWEST)
	@$(PY) -c '$(newest_requirements)' >$(NEWEST)/requirements.txt
	@$(call pip_into,$(NEWEST)) --upgrade --upgrade-strategy eager -r $(NEWEST)/requirements.txt
	$(NEWEST)/bin/python -m pytest $(WORKERS) tests/edge_runtime tests/parity $(PYTEST_ARGS)
	DERMEDGE_PLAIN=1 $(NEWEST)/bin/python -m pytest $(WORKERS) $(PLAIN_TESTS) $(PYTEST_ARGS)

wheel: $(dev_ready) $(demo_ready) build/sample.jpg ## Build the wheel, check it, install it bare, classify a photo with it
	rm -rf dist
	$(PY) -m build --no-isolation --wheel --outdir dist
	DERMEDGE_WHEEL="$$(ls dist/*.whl)" $(PY) -m pytest -q tests/architecture/test_wheel.py
	$(call fresh_environment,$(WHEEL_VENV),locks/runtime.txt)
	@$(call pip_into,$(WHEEL_VENV)) --no-deps --no-index dist/*.whl
	cd dist && ../$(WHEEL_VENV)/bin/edge-classify --json ../build/sample.jpg
	cd dist && ../$(WHEEL_VENV)/bin/dermedge check
	DERMEDGE_INSTALLED=$(WHEEL_VENV) $(PY) -m pytest -q tests/edge_runtime/test_installed.py

bench: $(dev_ready) ## Cold start and folders against ten-line scripts; cost of a heat map, of a training step and its input
	$(PY) -m tests.benchmarks.cold_start
	$(PY) -m tests.benchmarks.folder
	$(PY) -m tests.benchmarks.heat_map
	$(PY) -m tests.benchmarks.train_step

fuzz: $(dev_ready) ## Generated files of every kind, many more than the tests try (hours)
	@set -e; $(foreach kind,verdicts configs runs,$(PY) -m tests.edge_runtime.fuzz $(kind) --count 500;)
	$(PY) -m tests.edge_runtime.fuzz models --count 100000
	$(PY) -m tests.edge_runtime.fuzz graphs --count 100000
	$(PY) -m tests.edge_runtime.fuzz contracts --count 100000
	$(PY) -m tests.edge_runtime.fuzz tails --count 20000
	$(PY) -m tests.edge_runtime.fuzz photos --count 20000
	$(PY) -m tests.edge_runtime.fuzz saved --count 6000

test-pi: $(dev_ready) $(PI)/ready ## The wheel on Raspberry Pi OS's userlands, as a Pi 4 and 5 under QEMU (minutes; needs Debian)
	rm -rf $(PI)/wheel
	$(PY) -m build --no-isolation --wheel --outdir $(PI)/wheel
	@set -e; $(foreach suite,bookworm trixie,$(call pip_into,$(DEV)) --no-deps --no-index --upgrade --target $(PI)/$(suite)/site $(PI)/wheel/*.whl;)
	DERMEDGE_PI=$(PI) $(PY) -m pytest tests/pi $(PYTEST_ARGS)
	@cat $(PI)/report.txt

test-gpu: $(dev_ready) $(VULKAN)/ready ## LiteRT's GPU accelerator on a software Vulkan driver, which is fetched
	DERMEDGE_VULKAN=$(VULKAN)/files/usr/lib/chromium $(PY) -m pytest tests/edge_runtime/engines/test_fallback.py -k gpu $(PYTEST_ARGS)

test-android: $(dev_ready) ## The phone's Java core against Python, on the real LiteRT library (needs JDK 17 and Maven)
	mvn -q -B -f android_sample/pom.xml verify -Ddermedge.litert="$$($(litert_library))" -Ddermedge.model="$$($(bundled_model))"
	DERMEDGE_ANDROID=1 $(PY) -m pytest tests/android $(PYTEST_ARGS)

apk: $(dev_ready) ## A signed APK, verified: make apk MODEL=mine.tflite (needs aapt, zipalign, apksigner and enjarify too)
	android_sample/tools/build_apk.sh "$(apk_model)" build/dermedge.apk --prove
	DERMEDGE_APK=1 $(PY) -m pytest -q tests/android/test_android_classic.py

test-app: apk ## The app on Android 15's framework in a JVM; its screens, drawn, in build/android/screens/pictures
	$(PY) -m tests.android.screen_photos build/android/photos "$(apk_model)"
	mvn -q -B -f android_sample/pom.xml -P screens -pl screens -am verify -Dtest='dermedge.app.*Test' \
	  -Dsurefire.failIfNoSpecifiedTests=false -Ddermedge.litert="$$($(litert_library))" \
	  -Ddermedge.model="$$(ls "$(CURDIR)"/build/android/apk/assets/model/*.tflite)" -Ddermedge.photos="$(CURDIR)/build/android/photos"

lock: ## Resolve pyproject.toml into locks/ again (needs uv)
	@command -v uv >/dev/null || { echo "error: uv: not installed. Run pip install uv." >&2; exit 1; }
	$(call resolve,pyproject.toml,runtime,)
	$(call resolve,pyproject.toml,dev,--all-extras)
	$(call resolve,locks/mediapipe.in,mediapipe,)
	$(call resolve,locks/torch.in,torch,)

clean: ## Remove what the targets made: environments, build, dist, caches (not runs/)
	rm -rf $(DEMO) $(DEV) build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last: an interrupted installation is begun again, a finished one is taken until its lock changes.
$(demo_ready): locks/runtime.txt
	@echo "installing the runtime into $(DEMO) ..."
	$(call fresh_environment,$(DEMO),locks/runtime.txt)
	$(call link_checkout,$(DEMO))
	@touch $@

$(dev_ready): locks/dev.txt
	@echo "installing TensorFlow and all tools into $(DEV) (about 600 MB to download, 2.4 GB on disk) ..."
	$(call fresh_environment,$(DEV),locks/dev.txt)
	$(call link_checkout,$(DEV))
	@touch $@

# Userlands and emulator from Debian's mirrors, wheels from the runtime's lock: the versions that this desktop has, for arm64.
$(PI)/ready: tests/pi/userland.py tests/debian.py locks/runtime.txt | $(dev_ready)
	@echo "fetching arm64 userlands and QEMU into $(PI) (200 MB to download, 450 MB on disk) ..."
	$(PY) -m tests.pi.userland $(PI)
	@$(call wheels_for_arm64,3.11,$(PI)/bookworm/site)
	@$(call wheels_for_arm64,3.13,$(PI)/trixie/site)
	@touch $@

# SwiftShader, a Vulkan driver that needs no GPU, and the loader that finds it: three files of Debian's chromium-common.
$(VULKAN)/ready: tests/debian.py | $(dev_ready)
	@echo "fetching a software Vulkan driver into $(VULKAN) (6 MB on disk) ..."
	$(PY) -m tests.debian $(VULKAN) HOST HOST chromium-common \
	  $(addprefix usr/lib/chromium/,libvk_swiftshader.so libvulkan.so.1 vk_swiftshader_icd.json)
	@touch $@

$(mediapipe_ready): locks/mediapipe.txt
	@echo "installing MediaPipe into $(MEDIAPIPE) ..."
	$(call fresh_environment,$(MEDIAPIPE),locks/mediapipe.txt)
	@touch $@

$(torch_ready): locks/torch.txt
	@echo "installing PyTorch into $(TORCH) (2.5 GB to download, 6 GB on disk) ..."
	$(call fresh_environment,$(TORCH),locks/torch.txt)
	@touch $@

build/sample.jpg: train/data/synthetic/dataset.py | $(demo_ready)
	@mkdir -p build
	@PYTHONDONTWRITEBYTECODE=1 $(DEMO)/bin/dermedge experiment synthetic --sample $@

# find_python: prints the first command that is a Python 3.11 or later, or says what is missing.
find_python = for python in $(or $(PYTHON),python3.11 python3 python3.12 python3.13); do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; python=; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "error: python: not found (got none of $(or $(PYTHON),python3.11 python3 python3.12 python3.13); expected 3.11 or" \
	    "later). Install Python 3.11, or pass its path: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; \
	fi

# pip_into FOLDER: pip install into that environment, from wheels only. A pip outside does it (--python, pip 22.3 and
# later), because a copy of pip inside would cost 15 MB; where Python has none, one is put aside in build/.
pip_into = { $(find_python); pip="$$python -m pip"; \
	if ! $$pip --help 2>/dev/null | grep -q -e --python; then \
	  pip="build/venv-pip/bin/python -m pip"; \
	  if ! $$pip --version >/dev/null 2>&1; then $$python -m venv --clear build/venv-pip; fi || { \
	    echo "error: $$python: no pip 22.3 or later, and no ensurepip." \
	      "Install its pip or venv package (Debian: python3-pip or python3-venv)." >&2; exit 1; }; \
	fi; \
	set -- $$pip --disable-pip-version-check --python $(1)/bin/python install --quiet --no-compile --only-binary :all:; \
	} && "$$@"

# wheels_for_arm64 PYTHON,FOLDER: what the runtime's lock names, for another processor. pip matches tags letter by letter.
wheels_for_arm64 = $(call pip_into,$(DEV)) --require-hashes -r locks/runtime.txt --target $(2) --implementation cp \
	--python-version $(1) $(foreach glibc,2_17 2_26 2_27 2_28 2_31 2_34 2_35,--platform manylinux_$(glibc)_aarch64) --platform manylinux2014_aarch64

# fresh_environment FOLDER,LOCK: an environment that holds what the lock says and nothing else.
define fresh_environment
@$(find_python); rm -rf $(1) && mkdir -p build && $$python -m venv --without-pip $(1)
@$(call pip_into,$(1)) --require-hashes -r $(2)
endef

# link_checkout FOLDER: the packages of this checkout importable, and edge-classify as a command. Both by relative
# paths: the checkout may be moved. -P keeps a photo folder's own files from being imported.
define link_checkout
@for site in $(1)/lib/python3*/site-packages; do echo ../../../.. > $$site/dermedge-checkout.pth; done
@for pair in edge-classify:edge_runtime dermedge:dermedge; do \
	  printf '%s\n' '#!/bin/sh' "exec \"\$$(dirname -- \"\$$0\")/python\" -P -m $${pair#*:} \"\$$@\"" \
	    > $(1)/bin/$${pair%%:*}; chmod +x $(1)/bin/$${pair%%:*}; done
endef

# resolve SOURCE,NAME,EXTRAS: one lock for every supported Python and platform, hash by hash. No index address goes in.
define resolve
uv pip compile $(1) --universal --python-version 3.11 --generate-hashes --quiet --constraint locks/constraints.txt $(LOCK_ARGS) \
	  --custom-compile-command "make lock" $(3) --output-file locks/$(2).txt >/dev/null
endef
