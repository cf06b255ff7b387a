"""Every registered part takes a step on a GPU that is not there: no tensor is left behind, and nothing waits for a number.

What cannot be shown so is listed in `lt_signals.testing.not_faked`; a part that is listed and passes fails here, so that the list stays
true. Gradients need a made-up kind of device, which torch does not forget: they are computed in a new process (a fork has no threads for it).
"""
import json, os, subprocess, sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lt_signals.data.samplers import make_sampler, samplers
from lt_signals.data.transforms import transforms
from lt_signals.evaluation.multilabel_metrics import BestLabelF1, MacroLabelF1, MeanAP
from lt_signals.evaluation.multitask_metrics import CombinedAccuracy, ModulationAccuracy, SNRAccuracy, SNRError
from lt_signals.losses.base import losses
from lt_signals.models.base import heads, models
from lt_signals.tasks.crop_scores import BestF1
from lt_signals.testing import check_device, FakeDevice, not_faked
from lt_signals.training.optim import optimizers

KINDS = dict(model=models, loss=losses, transform=transforms, head=heads, optimizer=optimizers, fused=optimizers)

STEPS = """
import json, sys
from lt_signals.core.errors import LTSError
from lt_signals.testing import check_device
res = {}
for kind, name in json.loads(sys.argv[1]):
    try: check_device(kind, name, backward=True)
    except LTSError as e: res[f'{kind} {name}'] = str(e)
print(json.dumps(res))
"""

CALLBACKS = """
import json, torch
from fastai.metrics import accuracy
from lt_signals.evaluation.metrics import GroupRecall, MacroF1, MacroRecall
from lt_signals.losses.base import create_loss
from lt_signals.losses.gradnorm import GradientLengths
from lt_signals.losses.multitask import MultiTaskLoss
from lt_signals.losses.weightings import ProjectGradients
from lt_signals.models.base import create_model
from lt_signals.models.experts import LoadBalance
from lt_signals.testing import check_callbacks
from lt_signals.training.answers import KnownOnly
from lt_signals.training.callbacks import Accumulate, ClipGradients, DRW, EMA, KeepBest, Mixup, StopOnNaN
from lt_signals.training.classifier_stages import MaxNorm
from lt_signals.training.loss_features import LossFeatures
from lt_signals.training.speed import PlainInputs
few, small = (9, 5, 2, 1), dict(depth=2, width=8)
contrast = lambda: dict(model=create_model('ResNet1D', 4, head='contrast', **small), loss=create_loss('BCL', few))
experts = lambda: dict(model=create_model('MixtureOfExpertsConvNet', 4))
class Twice(torch.nn.Module): # one label, asked for twice
    def __init__(self):
        super().__init__()
        self.net = create_model('ResNet1D', 4, **small)
    def forward(self, x): return dict(a=self.net(x), b=self.net(x))
class Both(MultiTaskLoss):
    def forward(self, pred, y): return super().forward(pred, y, y)
both = lambda weighting: dict(model=Twice(), loss=Both(dict(a='CrossEntropy', b='CrossEntropy'), weighting))
cases = dict(KeepBest=lambda: check_callbacks(KnownOnly(), KeepBest(), StopOnNaN(), PlainInputs()),
             ClipGradients=lambda: check_callbacks(ClipGradients(1.), Accumulate(16)), EMA=lambda: check_callbacks(EMA(.9)),
             Mixup=lambda: check_callbacks(Mixup(.2)), MaxNorm=lambda: check_callbacks(MaxNorm(4)), DRW=lambda: check_callbacks(DRW(few, 0.)),
             LossFeatures=lambda: check_callbacks(LossFeatures(4, 2, []), **contrast()), LoadBalance=lambda: check_callbacks(LoadBalance(), **experts()),
             metrics=lambda: check_callbacks(metrics=[MacroRecall(), MacroF1(), GroupRecall(['many', 'few', 'few', 'few'], 'few')]),
             ProjectGradients=lambda: check_callbacks(ProjectGradients(), **both('pcgrad')),
             GradientLengths=lambda: check_callbacks(GradientLengths(), **both('gradnorm')),
             **{'metric accuracy': lambda: check_callbacks(metrics=[accuracy])})
res = {}
for name, case in cases.items():
    try: case()
    except Exception as e: res[name if ' ' in name else f'callback {name}'] = f'{type(e).__name__}: {e}'
print(json.dumps(res))
"""

def listed(way): return {f'{kind} {name}': why for (kind, name, w), why in not_faked.items() if w == way}


def run(code, *args):
    "What a new process prints as its last lines, each JSON."
    p = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *args], capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert p.returncode == 0, p.stderr
    return [json.loads(line) for line in p.stdout.splitlines() if line.startswith('{')]


def compare(found, expected):
    "What fails is what the list says, no more and no less."
    new = {k: v for k, v in found.items() if k not in expected}
    assert not new, '\n'.join(new.values())
    assert not (gone := [k for k in expected if k not in found]), f'{gone} pass; take them out of `not_faked`'


@pytest.mark.parametrize('kind', KINDS)
def test_forward_on_a_device(kind):
    found = {}
    for name in KINDS[kind]:
        try: check_device(kind, name)
        except Exception as e: found[f'{kind} {name}'] = str(e)
    compare(found, {k: v for k, v in listed('forward').items() if k.split()[0] == kind})


def test_gradients_and_callbacks_on_a_device():
    kinds = [k for k in KINDS if k != 'model']
    tried = [(k, n) for k in kinds for n in KINDS[k]] + [('model', 'ConvNetADSB'), ('model', 'DualViewNet')]
    parts, callbacks = run(STEPS + CALLBACKS, json.dumps(tried))
    compare(parts, {k: v for k, v in listed('backward').items() if k.split()[0] in kinds})
    compare(callbacks, {k: v for k, v in listed('backward').items() if k.split()[0] in ('callback', 'metric')})


@pytest.mark.slow # recurrent networks, step by step
def test_gradients_of_all_networks():
    compare(run(STEPS, json.dumps([('model', n) for n in models]))[0], {})


METRICS = dict(label=[MacroLabelF1(), BestLabelF1(), MeanAP()], task=[ModulationAccuracy(), SNRAccuracy(), CombinedAccuracy(), SNRError([0, 10, 20])],
               crop=[BestF1()])


@pytest.mark.parametrize('kind', METRICS)
def test_metrics_of_several_labels_on_a_device(kind):
    fake = FakeDevice()
    y, z = fake.put(torch.arange(6) % 3), fake.put(torch.randn(6, 3))
    learn = dict(label=dict(pred=z, y=fake.put(torch.ones(6, 3))), crop=dict(pred=fake.put(torch.randn(6, 2)), y=y, epoch=0),
                 task=dict(pred=dict(modulation=z, snr=z), yb=(y, y), loss_func=None))[kind]
    learn = SimpleNamespace(**learn, to_detach=lambda o, cpu: o.detach())
    for metric in METRICS[kind]:
        if hasattr(metric, 'snr_values'): metric.snr_values = fake.put(metric.snr_values)  # as after the first batch
        metric.reset()
        fake.check(lambda: metric.accumulate(learn), metric.name)


@pytest.mark.parametrize('name', samplers)
def test_samplers_touch_no_tensor(name):
    class Nothing(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None): raise AssertionError(f'{name} calls {func}')
    sampler = make_sampler(np.arange(40) % 4, name, total_epochs=4)
    with Nothing():
        sampler.set_epoch(2)
        sampler.epoch_indices()
