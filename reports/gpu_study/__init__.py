"""The decode study on one NVIDIA GPU: threads, processes and processes under MPS. Results: reports/gpu-nvimagecodec."""
