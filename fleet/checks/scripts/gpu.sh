# Prints the versions of the NVIDIA kernel module and of the library, and what nvidia-smi says of each GPU.
# The tool is where NixOS has it, and so is the library, whose file is named after the version that userspace speaks.
PATH=$PATH:/run/current-system/sw/bin
sed -n 's/^NVRM version:/module=&/p' /proc/driver/nvidia/version 2>/dev/null
for library in /run/opengl-driver/lib/libnvidia-ml.so.1 /usr/lib/*/libnvidia-ml.so.1; do
    [ ! -e "$library" ] || { echo "library=$(readlink -f "$library")"; break; }
done
command -v nvidia-smi >/dev/null || { echo "nvidia-smi is not there" >&2; exit 127; }
nvidia-smi --query-gpu=driver_version,name --format=csv,noheader
