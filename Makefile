# The front door. "make" builds, "make help" lists the targets.
.DEFAULT_GOAL := all
BUILD ?= build
SANITIZE_BUILD ?= build-asan
JOBS ?= $(shell nproc)
BENCH_PYTHON ?= build-bench/venv/bin/python
FASHION = /usr/share/datasets/fashion-mnist

## all: build the library and build/ferkd
all:
	@cmake -S . -B $(BUILD) $(CMAKE_FLAGS) >$(BUILD).log 2>&1 || { mkdir -p $(BUILD); cat $(BUILD).log; rm -f $(BUILD).log; \
	  echo "configuring failed: \"make packages\" installs what is needed"; exit 1; }
	@rm -f $(BUILD).log
	@cmake --build $(BUILD) -j $(JOBS)

## packages: install what building and testing need (Debian, root or sudo)
packages:
	@sh tools/packages.sh build test

## demo: from Fashion-MNIST to a distilled student, in a few minutes
demo:
	@sh tools/packages.sh build demo
	@$(MAKE) --no-print-directory all CMAKE_FLAGS=-DFERKD_TESTS=OFF
	@sh examples/demo.sh $(BUILD)/ferkd $(FASHION)

## test: build and pass all tests
test:
	@sh tools/packages.sh build test
	@$(MAKE) --no-print-directory all CMAKE_FLAGS="-DFERKD_WERROR=ON -DFERKD_TESTS=ON"
	@python3 tools/floors.py
	@cd $(BUILD) && ctest --output-on-failure

## check: test, check-sanitized, check-dnnl3, check-peers
check: test check-sanitized check-dnnl3 check-peers

## check-sanitized: the tests with address and undefined-behaviour sanitizers (fewer networks: they are slow)
check-sanitized:
	@cmake -S . -B $(SANITIZE_BUILD) -DCMAKE_BUILD_TYPE=RelWithDebInfo -DFERKD_SANITIZE=address,undefined >/dev/null
	@cmake --build $(SANITIZE_BUILD) -j $(JOBS)
	@cd $(SANITIZE_BUILD) && LSAN_OPTIONS=suppressions=$(CURDIR)/tests/suppressions/lsan.txt:print_suppressions=0 \
	  UBSAN_OPTIONS=halt_on_error=1 TEST_FEW=1 ctest --output-on-failure

## check-dnnl3: build and test with oneDNN 3.x (from PyPI; Debian 12 has 2.6)
check-dnnl3:
	@sh tools/dnnl3.sh build-dnnl3

## check-peers: TensorBoard (from PyPI) reads what ferkd writes; the Python module
check-peers: all
	@sh tools/peers.sh build-peers $(BUILD)/ferkd

## wheel: the Python module with the library in it, build/ferkd-*.whl
wheel: all
	@cp -L $(BUILD)/libferkd.so python/ferkd/libferkd.so
	@python3 -m venv $(BUILD)/wheel-venv
	@$(BUILD)/wheel-venv/bin/pip wheel -q --no-deps -w $(BUILD) ./python
	@rm -rf python/ferkd/libferkd.so python/build python/*.egg-info
	@ls $(BUILD)/ferkd-*.whl

## bench: against PyTorch and ONNX Runtime, in one run: make bench ROWS="train-resnet18-f32"
bench: all
	@test -x $(BENCH_PYTHON) || sh bench/setup.sh $(dir $(BENCH_PYTHON))..
	@python3 bench/bench.py $(BUILD)/ferkd $(BENCH_PYTHON) $(ROWS)

## fuzz: fuzz one parser with clang's libFuzzer: make fuzz T=onnx S=60
fuzz:
	@sh tools/fuzz.sh $(or $(T),onnx) $(or $(S),60)

## golden: remake the golden files (needs PyTorch, Pillow < 12.1); must leave no difference
golden:
	python3 tests/golden/make_images.py
	python3 tests/golden/make_ops.py
	python3 tests/golden/make_events.py
	python3 tests/golden/make_torch.py
	git diff --stat --exit-code tests/golden tests/data

## format: clang-format everything
format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

## install: install library, program, headers, man pages (PREFIX=/usr/local)
install: all
	@cmake --install $(BUILD) $(if $(PREFIX),--prefix $(PREFIX))

## clean: remove what was built
clean:
	@rm -rf $(BUILD) $(SANITIZE_BUILD) $(BUILD).log

## help: this list
help:
	@sed -n 's/^## /  /p' Makefile

.PHONY: all packages demo test check check-sanitized check-dnnl3 check-peers wheel bench fuzz golden format install clean help
