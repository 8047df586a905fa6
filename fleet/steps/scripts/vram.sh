# Prints the memory of each GPU in MiB. NixOS has nvidia-smi where its driver is.
PATH=$PATH:/run/current-system/sw/bin nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits
