"""Trust domains (Intel TDX) that run one enclave program: a development one, and the image of a real one."""
