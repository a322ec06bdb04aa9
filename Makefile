# `make demo` and `make test` are all a newcomer needs; both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo bench test test-cuda lint sanitize browser setup clean

demo: setup
	$(BIN)/gnnscale compare experiments/demo.toml

# Speed beside the peers, 20 minutes; BENCH_PYTHON may be an interpreter that has more of them.
BENCH_PYTHON ?= $(BIN)/python
bench: setup
	$(BENCH_PYTHON) experiments/speed/run.py $(BENCH_ARGS)

test: setup lint sanitize browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

# On a machine with a GPU, torch, NumPy, pytest, setuptools, nanobind, CMake, ninja and the CUDA toolkit, and nothing else:
# builds in place, downloads nothing. CUDA_PYTHON is an interpreter that has them.
CUDA_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
test-cuda:
	$(CUDA_PYTHON) setup.py -q build_ext --inplace
	$(CUDA_PYTHON) -m pytest -m cuda --confcutdir=tests/cuda tests/cuda

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The history's native part under stress, plainly and under the compiler's sanitizers; some of these want fixed addresses.
STRESS := native/tests/history_stress.cpp $(addprefix native/cpu/,copy.cpp encoding.cpp journal.cpp rows.cpp pool.cpp transfers.cpp)
STRESS_FLAGS := -std=c++17 -g -O1 -Wall -Wextra -fopenmp-simd -pthread -Inative/include
sanitize:
	@command -v $(CXX) >/dev/null || { echo "no C++ compiler: the stress test of the native code is left out"; exit 0; }; \
	mkdir -p build/sanitize && fixed=$$(setarch -R true 2>/dev/null && echo setarch -R); \
	for kind in "" "-fsanitize=address,undefined -fno-sanitize-recover=all" "-fsanitize=thread -Wno-tsan"; do \
		echo "native stress test $$kind" && \
		$(CXX) $(STRESS_FLAGS) $$kind $(STRESS) -o build/sanitize/stress && $$fixed build/sanitize/stress || exit 1; \
	done

# The page of a comparison is tested in Debian's chromium, which is installed where that may be done.
browser:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium >/dev/null 2>&1; } || \
		echo "no chromium: the tests of report.html in a browser are left out (Debian: apt-get install chromium)"

setup: $(VENV)/ready

# Made again when a dependency or the native sources change. build/ is not kept: it names the temporary folder
# of the compiler's environment.
$(VENV)/ready: setup.cfg pyproject.toml setup.py constraints.txt $(shell find native -type f)
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v in ((3, 10), (3, 11)) or sys.exit("gnnscale needs Python 3.10 or 3.11 (DGL has no wheel for %d.%d); try: make PYTHON=python3.11" % v)'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt --editable '.[test]'
	@$(BIN)/python -c 'from gnnscale.ops import backend, backend_reason; print("gnnscale runs on its", backend(), "operations.", backend_reason())'
	touch $@

clean:
	rm -rf $(VENV) build gnnscale/_native*.so gnnscale/_cuda*.so gnnscale.egg-info
