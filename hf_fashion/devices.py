"""What a device can do; light, since pages that only search ask it, too."""

import torch


def supports_bf16(device: str) -> bool:
    """Whether a device computes in bfloat16 by itself; what merely emulates it is slower than full precision.

    Args:
        device: "cpu" or "cuda".
    """
    if device == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
