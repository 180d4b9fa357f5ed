#!/usr/bin/env bash
# Everything that needs a GPU, in one command on a bare machine without network: torch with CUDA,
# nvcc, cmake, ninja, scikit-build-core, pybind11 and pytest are expected, ASE is not; LAMMPS comes in
# an archive of benchmarks/pack_lammps.py, if PETMAD_LAMMPS_ARCHIVE names one.
#
#     benchmarks/on_gpu.sh [STAGE ...]
#
# Without arguments all stages, in the order below; a failed one does not stop the next, but the exit
# status tells. The log and the tables go to $OUT, or ./gpu_results, a table row by row: where a
# machine is lent for minutes, name few stages at a time, and a run that is cut off leaves its rows.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-$PWD/gpu_results}
mkdir -p "$out"
known=(facts build test bench lammps bench_layers precision nve sanitize profile bench_large)
stages=("$@")
[ $# -eq 0 ] && stages=("${known[@]}")
export PYTHONUNBUFFERED=1 PETMAD_REQUIRE_GPU=1 PETMAD_RESULTS=$out
failed=()

facts() {
    nvidia-smi
    nvcc --version | tail -2
    g++ --version | head -1
    python3 -c 'import torch; print(torch.__version__, torch.version.cuda, torch.cuda.get_device_name())'
}

# Hopper's code alone: half of the compile time, and the card that is there.
build() {
    local lammps=OFF
    if [ -n "${PETMAD_LAMMPS_ARCHIVE:-}" ]; then
        python3 benchmarks/pack_lammps.py --unpack "$PETMAD_LAMMPS_ARCHIVE" || return 1
        lammps=ON
    fi
    python3 -m pip install --no-build-isolation --no-deps --no-index \
        -C cmake.define.PETMAD_CUDA=ON -C cmake.define.PETMAD_LAMMPS=$lammps \
        -C cmake.define.PETMAD_CUDA_ARCHITECTURES="${PETMAD_GPU_ARCHITECTURES:-90-real}" .
}

# torch and Python of another version may warn of other things than those we know
run_tests() {
    python3 -m pytest -q -m cuda -o filterwarnings=default -p no:cacheprovider "$@"
}

test() {
    run_tests tests/cuda tests/parity/test_domains.py tests/parity/test_modes.py --timeout 600
}

bench() {
    python3 benchmarks/gpu.py --sizes XS S --rounds 10
}

bench_large() {
    python3 benchmarks/gpu.py --sizes M --rounds 5 --output gpu_M
}

bench_layers() {
    python3 benchmarks/gpu.py --sizes S --rounds 3 --precisions fp32 --memory layers \
        --systems "5184 water" "62208 water" "222264 water" --output gpu_layers
}

precision() {
    python3 benchmarks/gpu_precision.py --device cuda
}

has_lammps() {
    [ -n "${PETMAD_LAMMPS_ARCHIVE:-}" ] && return 0
    echo "not run: PETMAD_LAMMPS_ARCHIVE names no archive of LAMMPS"
    return 1
}

lammps() {
    has_lammps || return 0
    python3 benchmarks/gpu_lammps.py --sizes S
}

nve() {
    has_lammps || return 0
    python3 benchmarks/gpu_nve.py
}

sanitize() {
    local status=0
    for tool in memcheck racecheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 9 --launch-timeout 0 \
            python3 -m pytest -q -m cuda -o filterwarnings=default -p no:cacheprovider \
            tests/cuda/test_cuda_list.py tests/cuda/test_cuda_network.py \
            -k "not million and not grid_is_high" || status=1
    done
    return $status
}

# The two hottest kernels of ours, and how long each kernel of a step takes.
profile() {
    local status=0
    python3 benchmarks/gpu_trace.py --size S --system "5184 water" --precision tf32 || status=1
    ncu --clock-control none --set full -k regex:warps_kernel --launch-skip 60 --launch-count 24 \
        -f -o "$out/hottest" python3 benchmarks/gpu.py --sizes S --precisions tf32 \
        --systems "648 water" --rounds 1 --output gpu_profile > "$out/ncu.log" 2>&1 || status=1
    ncu --import "$out/hottest.ncu-rep" --page details > "$out/hottest.txt" || status=1
    rm -f "$out/hottest.ncu-rep" "$out/gpu_profile.json"
    return $status
}

for stage in "${stages[@]}"; do
    if [[ " ${known[*]} " != *" $stage "* ]]; then
        echo "unknown stage '$stage'; known are ${known[*]}" >&2
        exit 2
    fi
    echo "=== $stage"
    start=$SECONDS
    "$stage" > >(tee -a "$out/on_gpu.log") 2>&1 || failed+=("$stage")
    echo "=== $stage took $((SECONDS - start)) s"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
