#!/usr/bin/env bash
# Everything that needs a GPU, in one command on a bare machine without network: torch with CUDA,
# nvcc, cmake, ninja, scikit-build-core, pybind11 and pytest are expected, ASE is not; LAMMPS comes in
# an archive of benchmarks/pack_lammps.py, if PETMAD_LAMMPS_ARCHIVE names one.
#
#     benchmarks/on_gpu.sh [facts] [build] [test] [bench] [lammps] [sanitize] [profile]
#
# Without arguments all of it, in this order; a failed stage does not stop the next, but the exit
# status tells. Logs and tables go to $OUT, or ./gpu_results.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-$PWD/gpu_results}
mkdir -p "$out"
stages=("$@")
[ $# -eq 0 ] && stages=(facts build test bench lammps sanitize profile)
export PYTHONUNBUFFERED=1 PETMAD_REQUIRE_GPU=1
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
    local status=0
    python3 benchmarks/gpu.py --sizes XS S --rounds 10 || status=1
    python3 benchmarks/gpu.py --sizes M --rounds 5 --output gpu_M || status=1
    python3 benchmarks/gpu.py --sizes S --rounds 3 --precisions fp32 --memory layers \
        --systems "5184 water" "62208 water" "222264 water" --output gpu_layers || status=1
    python3 benchmarks/gpu_precision.py --device cuda || status=1
    cp benchmarks/results/gpu*.json "$out"
    return $status
}

lammps() {
    if [ -z "${PETMAD_LAMMPS_ARCHIVE:-}" ]; then
        echo "not run: PETMAD_LAMMPS_ARCHIVE names no archive of LAMMPS"
        return 0
    fi
    local status=0
    python3 benchmarks/gpu_lammps.py --sizes XS S || status=1
    python3 benchmarks/gpu_nve.py || status=1
    cp benchmarks/results/gpu_{lammps,nve}.json "$out"
    return $status
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
    rm -f "$out/hottest.ncu-rep" benchmarks/results/gpu_profile.json
    return $status
}

for stage in "${stages[@]}"; do
    case $stage in
    facts | build | test | bench | lammps | sanitize | profile) ;;
    *)
        echo "unknown stage '$stage'; known are facts, build, test, bench, lammps, sanitize, profile" >&2
        exit 2
        ;;
    esac
    echo "=== $stage"
    start=$SECONDS
    "$stage" > >(tee "$out/$stage.log") 2>&1 || failed+=("$stage")
    echo "=== $stage took $((SECONDS - start)) s"
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]}"
    exit 1
fi
