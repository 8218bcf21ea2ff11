"""The native kernels of FedSlice: `passes.so` is what an enclave computes around a product, `product.so` an
accelerator's product. They are loaded by path; importing this package runs nothing."""
