"""Forward and backward pass of every loss, beside the plain loss that one would use instead, float32.

Losses of one label at (4096, 1000) beside `F.cross_entropy`, sigmoid ones beside torchvision's focal loss; those of SNR at (4096, 26) beside `F.cross_entropy`;
those of several labels at (4096, 1000) beside `F.binary_cross_entropy_with_logits`, or that focal loss. Losses of experts and embeddings get those of three experts, or 128
numbers a sample and a class. All take turns (`turns.py`); a ratio below 1 means that ours is slower, and a row of the plain loss beside itself shows the noise.

Run: python benchmarks/losses.py [--device cuda] [--rounds 20] [--small]     --small: 8 rounds at a batch of 1,024
"""
import argparse

import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss

from lt_signals.losses.base import create_loss, losses
from turns import one_thread, store, take_turns

CLASSES, SNRS = 1000, 26
VARIANTS = {'ClassBalanced, focal': ('ClassBalanced', dict(base='focal')),
            'ClassBalanced, sigmoid focal': ('ClassBalanced', dict(base='sigmoid_focal'))}
SIGMOID = 'SigmoidFocal', 'ClassBalanced, sigmoid focal', 'MultiLabelFocal', 'Asymmetric'
SNR = 'DistancePenalizedSNR', 'OrdinalSNR'
GOALS = {'CrossEntropy': .67, 'FocalLoss': .67, 'BalancedSoftmax': .67, 'LogitAdjustment': .67, 'LDAM': .67, 'VS': .67}


class Work:
    "Logits, labels and features of a size, on a device."
    def __init__(self, batch, classes, device):
        g = torch.Generator().manual_seed(0)
        self.z = (20*torch.rand(batch, classes, generator=g) - 10).to(device)
        self.y = torch.randint(classes, (batch,), generator=g).to(device)
        self.hot = (torch.rand(batch, classes, generator=g) < .01).float().to(device)
        self.experts = torch.randn(batch, 3, classes, generator=g).to(device)
        self.points, self.centres = (F.normalize(torch.randn(n, 128, generator=g), dim=1).to(device) for n in (batch, classes))
        self.counts = (1000*100**-(torch.arange(classes)/(classes - 1))).long()

    def step(self, loss, target, *feature):
        "A function: one forward and backward pass."
        def f():
            z, *rest = (t.detach().requires_grad_() for t in (self.z, *feature))
            loss(z, target, *([rest[0] if len(rest) == 1 else rest] if rest else [])).backward()
        return f


def plain(work):
    "What one would use instead."
    one_hot = F.one_hot(work.y, work.z.shape[1]).float()
    def focal(z, y): return sigmoid_focal_loss(z, y, reduction='sum')/len(z)
    return {'F.cross_entropy': work.step(F.cross_entropy, work.y), 'torchvision focal': work.step(focal, one_hot),
            'F.binary_cross_entropy_with_logits': work.step(F.binary_cross_entropy_with_logits, work.hot)}


def ours(label, work):
    "One of our losses."
    name, options = VARIANTS.get(label, (label, losses.info.get(label, {}).get('example', {})))
    info = losses.info.get(name, {})
    loss = create_loss(name, work.counts, work.z.shape[1], **options).to(work.z.device)
    loss.set_epoch(5, 10)
    features = dict(experts=[work.experts], embeddings=[work.points, work.centres]).get(info.get('features'), [])
    return work.step(loss, work.hot if info.get('multilabel') else work.y, *features)


def peer_of(label):
    if label in SIGMOID: return 'torchvision focal'
    return 'F.binary_cross_entropy_with_logits' if losses.info.get(label, {}).get('multilabel') else 'F.cross_entropy'


def main(device, rounds, small):
    one_thread()
    batch, rounds = (1024, 8) if small else (4096, rounds)
    big, few = Work(batch, CLASSES, device), Work(batch, SNRS, device)
    labels = [*losses, *VARIANTS]
    ways = {k: ours(k, few if k in SNR else big) for k in labels}
    peers = plain(big) | {'of 26': plain(few)['F.cross_entropy'], 'F.cross_entropy again': plain(big)['F.cross_entropy']}
    times = take_turns(ways | peers, rounds, cuda=str(device).startswith('cuda'))
    for label in ['F.cross_entropy again', *labels]:
        peer = peer_of(label)
        pair = {'ours': times[label], peer: times['of 26' if label in SNR else peer]}
        store(f'loss {label}', pair, fair=peer, goal=GOALS.get(label), device=device, batch=batch)


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--device', default='cpu', help='cpu, cuda, ...')
    a.add_argument('--rounds', type=int, default=20, help='timed rounds')
    a.add_argument('--small', action='store_true', help='8 rounds at a batch of 1,024')
    main(**vars(a.parse_args()))
