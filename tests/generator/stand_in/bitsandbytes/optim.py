import torch


class AdamW8bit(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def init_state(self, group, p, gindex, pindex):
        assert group["params"][pindex] is p is self.param_groups[gindex]["params"][pindex]
        self.state[p] |= {"step": 0, "state1": torch.zeros_like(p), "state2": torch.zeros_like(p)}

    @torch.no_grad()
    def step(self):
        for gindex, group in enumerate(self.param_groups):
            for pindex, p in enumerate(group["params"]):
                if p.grad is None:
                    continue
                assert type(p.grad) is torch.Tensor and p.numel()
                if not self.state[p]:
                    self.init_state(group, p, gindex, pindex)
                kept, (one, two) = self.state[p], group["betas"]
                kept["step"] += 1
                kept["state1"].lerp_(p.grad, 1 - one)
                kept["state2"].lerp_(p.grad.square(), 1 - two)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                scale = (kept["state2"] / (1 - two ** kept["step"])).sqrt_().add_(group["eps"])
                p.addcdiv_(kept["state1"] / (1 - one ** kept["step"]), scale, value=-group["lr"])
