"""A training step of a `Learner` beside a bare loop with torch's fused optimiser, and each switch of `speed` beside the plain step.

The bare loop is what one writes for a paper: batches picked from tensors in memory, forward, loss, backward, clipping, `AdamW(fused=True)`; it has no
schedule, no running mean of the loss, no check for NaN and no seeds. Ours is the training part of an epoch of `Stage1` with all that it has by default.
A call is four steps of batch 32; ways take turns (see turns.py). bfloat16 is stored with whether the processor has it.

Run: python benchmarks/step.py [--rows bare switches image compile] [--rounds 8]
"""
import argparse
from contextlib import ExitStack

import numpy as np
import torch
from torch.nn import functional as F
from turns import one_thread, store, take_turns

from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.io.signal_store import SignalStore
from lt_signals.models.base import create_model
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.learner import classifier_learner
from lt_signals.training.sections import SpeedConfig
from lt_signals.training.speed import computes_bfloat16, faster
from lt_signals.training.stages import TrainContext

BATCH, STEPS, CLASSES = 32, 4, 10
NETS = dict(ConvNetADSB={}, ResNet1D={})


def signals(length):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH*STEPS, 2, length), dtype=np.float32)
    return x, np.arange(len(x)) % CLASSES


def bare(name, length, fused=True, **options):
    "Four steps of a loop without anything."
    (x, y), model = map(torch.from_numpy, signals(length)), create_model(name, CLASSES, **options).train()
    opt = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=1e-2, fused=fused)

    def run():
        for i in torch.randperm(len(x)).split(BATCH):
            F.cross_entropy(model(x[i]), y[i]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.)
            opt.step()
            opt.zero_grad()
    return run


def ours(name, length, on=(), **options):
    "Four steps of the training part of an epoch, with some switches of `speed`."
    x, y = signals(length)
    store, every = SignalStore.from_arrays(x, [str(k) for k in y]), np.arange(len(x))
    dls = build_dataloaders(store, split=(every, every[:0], every[:0]), batch_size=BATCH, augment=[])
    learn, stage, speed = classifier_learner(dls, name, **options), Stage1(epochs=1), SpeedConfig(**dict.fromkeys(on, True))
    ctx, inside = TrainContext(learn), ExitStack()
    learn.opt_func = stage._opt_func(speed)
    inside.enter_context(learn.no_bar())
    inside.enter_context(faster(learn, speed))
    inside.enter_context(learn.added_cbs(stage.callbacks(ctx.train_counts, 'cpu', has_valid=False)))
    learn.create_opt()
    learn.opt.set_hypers(wd=1e-2, lr=2e-3)
    learn.n_epoch, learn.epoch = 1, 0
    learn('before_fit')
    learn('before_epoch')

    def run(): learn._do_epoch_train()
    run.inside = inside # the contexts stay open as long as the function is there
    return run


def against_bare(rounds):
    for name, options in NETS.items():
        for length in (1024, 128):
            ways = {'bare loop, fused AdamW': bare(name, length, **options), 'bare loop': bare(name, length, False, **options),
                    'ours': ours(name, length, **options), 'speed.fused': ours(name, length, ['fused'], **options)}
            times = take_turns(ways, rounds)
            fair, work = 'bare loop, fused AdamW', f'training step, {name}, {length} samples'
            for way, label in (('ours', work), ('speed.fused', f'{work}, speed.fused')):
                store(label, {k: times[k] for k in (way, fair, 'bare loop')}, way, fair, .97, batch=BATCH)


def of_switch(switch, network, length, rounds, **settings):
    name, options = network
    ways = {switch: ours(name, length, [switch], **options), 'plain step': ours(name, length, **options)}
    goal = 1.4 if switch == 'bf16' and computes_bfloat16() else None
    store(f'speed.{switch}, {name}', take_turns(ways, rounds), switch, 'plain step', goal, batch=BATCH, length=length, **settings)


def of_bfloat16(rounds):
    "Where the processor has it; else one round of one network, which shows why `speed.bf16` is refused there."
    native = computes_bfloat16()
    if not native: print('this processor has no bfloat16: imitated')
    for name, options in list(NETS.items())[:None if native else 1]:
        of_switch('bf16', (name, options), 256, rounds if native else 1, native=native)


def main(rows, rounds):
    one_thread()
    small = dict(image_size=64, backbone_options=dict(channels=(16, 32, 64, 128)))
    if 'bare' in rows: against_bare(rounds)
    if 'switches' in rows:
        for name, options in NETS.items(): of_switch('fused', (name, options), 128, rounds)
        of_bfloat16(rounds)
    if 'image' in rows: of_switch('channels_last', ('resnet18', small), 256, rounds)
    if 'compile' in rows:
        for name, options in NETS.items(): of_switch('compile', (name, options), 256, rounds)


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument('--rows', nargs='+', default=['bare', 'switches', 'image'], help='bare, switches, image, compile (a minute of compiling each)')
    a.add_argument('--rounds', type=int, default=8, help='turns that are timed')
    a.add_argument('--small', action='store_true', help='bare alone')
    a = a.parse_args()
    main(['bare'] if a.small else a.rows, a.rounds)
