# Everything runs in .venv, which is made on first use and brought up to date when requirements.lock changes.

# The first of these that runs and is new enough; the system's python3 often is not.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The one version the project is developed and tested with; pyproject.toml has the range it should work with.
TORCH := 2.13.0
# Many tests start layerlift, which would be compiled anew each time.
unexport PYTHONDONTWRITEBYTECODE
# On all cores; a file's tests share what they have made.
PYTEST := -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile
# The processors that pyproject.toml asks pypatchmatch for: a pinned version without this would be built elsewhere.
WHEELED := x86_64 aarch64 AMD64 arm64 ARM64
# Where MLX has wheels for the CPU.
MLX_CPU := platform_machine in "x86_64 aarch64" and sys_platform == "linux"

.PHONY: demo test test-page test-all fuzz lint page-lint format types docs lock clean install

## take a short clip apart, on the CPU, with the model in the package: see demo/contact_sheet.png
demo: $(STAMP)
	$(BIN)/layerlift demo -o demo --model demo --overwrite

## the fast tests
test: $(STAMP)
	$(BIN)/python $(PYTEST) -m "not slow" --ignore tests/browser

## the page of `layerlift app` in a real browser, Debian's chromium; skipped where there is none
test-page: $(STAMP)
	$(BIN)/python $(PYTEST) -m "not slow" tests/browser

## every test, among them parity with the packages ltx-video and PyMatting (installed here: they are not in the lock)
test-all: $(STAMP)
	$(BIN)/pip install --quiet --no-deps ltx-video==0.1.2 einops pymatting==1.1.16 numba==0.68.1 llvmlite==0.50.0
	$(BIN)/python $(PYTEST)

## hostile files against everything that reads one: see tests/fuzz; FUZZ="--inputs 50000 --seed 1" for more of them
fuzz: $(STAMP)
	$(BIN)/python tests/fuzz $(FUZZ)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

## types and style of the JavaScript of `layerlift app`; needs npm, which nothing else here does
page-lint: tools/page/node_modules/.installed
	tools/page/node_modules/.bin/tsc --project tools/page
	tools/page/node_modules/.bin/eslint --config tools/page/eslint.config.js --max-warnings 0 src/layerlift/app/page

tools/page/node_modules/.installed: tools/page/package-lock.json
	cd tools/page && npm ci --silent --no-audit --no-fund
	touch $@

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)
	$(BIN)/mypy

## the guides and the reference of the Python API as pages: see build/site/index.html
docs: $(STAMP)
	$(BIN)/mkdocs build --strict

install: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "layerlift needs Python 3.11 or newer, but python3 here is $$(python3 -V 2>&1):" \
		"install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

## choose the newest versions that pyproject.toml allows, in an empty environment, and pin them
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH) '.[dev]'
	{ echo "# Made by \`make lock\`. CUDA's libraries are missing on purpose: the torch wheel that needs them pins them itself."; \
	  build/lock/bin/python -m pip freeze --exclude layerlift | sed -e 's/+cpu$$//' \
	    -e "/^pypatchmatch==/I s/$$/ ; platform_machine in \"$(WHEELED)\"/" \
	    -e '/^mlx==/ s/$$/ ; platform_machine == "arm64" and sys_platform == "darwin" or $(MLX_CPU)/' \
	    -e '/^mlx-cpu==/ s/$$/ ; $(MLX_CPU)/' | grep -viE '^(nvidia-|cuda-|triton)'; } > requirements.lock
	rm -rf build/lock

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
