"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), batched over matrices of equal shape."""
import math
import torch


class Muon(torch.optim.Optimizer):
    """Momentum + Newton-Schulz orthogonalisation for matrices (kernels are flattened to matrices), batched over equal shapes;
    the update's RMS is matched to AdamW's (0.2), so AdamW-like learning rates work."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for g in self.param_groups:
            by = {}
            for p in g["params"]:
                if p.grad is not None:
                    by.setdefault(tuple(p.shape), []).append(p)
            for shape, ps in by.items():
                bufs = []
                for p in ps:
                    st = self.state[p]
                    if "m" not in st:
                        st["m"] = torch.zeros_like(p)
                    bufs.append(st["m"])
                grads = [p.grad for p in ps]
                torch._foreach_lerp_(bufs, grads, 1 - g["momentum"])
                u = torch.stack(torch._foreach_lerp(grads, bufs, g["momentum"])).flatten(2).bfloat16()
                rows, cols = u.shape[1:]
                tr = rows > cols
                if tr:
                    u = u.mT
                u = u / (u.norm(dim=(-2, -1), keepdim=True) + 1e-7)
                for _ in range(5):
                    A = u @ u.mT
                    u = 3.4445 * u + (-4.7750 * A + 2.0315 * A @ A) @ u
                if tr:
                    u = u.mT
                s = 0.2 * math.sqrt(max(rows, cols)) * g["lr"]
                torch._foreach_mul_(ps, 1 - g["lr"] * g["weight_decay"])
                torch._foreach_add_(ps, list((u.to(ps[0].dtype) * -s).reshape(len(ps), *shape).unbind(0)))
