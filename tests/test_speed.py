"""With each switch of speed, a run that is stopped and resumed ends with the very weights of one that was left alone; its weights and its
predictions are those of a plain network."""
import numpy as np
import pytest
import torch

from lt_signals.core.errors import ConfigError
from lt_signals.core.random import setup_seed
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.evaluation.predictions import predict
from lt_signals.io.signal_store import SignalStore
from lt_signals.models.base import create_model, models
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.recognizer import Recognizer
from lt_signals.training import speed
from lt_signals.training.checkpoint import load_weights
from lt_signals.training.classifier_stages import Stage1, Stage2
from lt_signals.training.fit import fit_stages
from lt_signals.training.learner import classifier_learner

IMAGES = dict(model='resnet18', image_size=32, backbone_options=dict(layers=(1, 1, 1, 1), channels=(8, 8, 8, 8), zero_init_last=False))
SIGNALS = dict(model='ResNet1D', depth=2, width=4, dropout_rate=.3)
SWITCHES = dict(bf16=SIGNALS, channels_last=IMAGES, fused=SIGNALS)


class Stop(Exception): "The end of a run in its midst."


@pytest.fixture(autouse=True)
def any_processor(monkeypatch):
    "bfloat16 is imitated where the processor does not have it."
    monkeypatch.setattr(speed, 'computes_bfloat16', lambda: True)


def learner(network):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(4), [30, 12, 8, 6])
    x = np.exp(2j*np.pi*(.03 + .02*y)[:, None]*np.arange(32)) + .7*rng.normal(size=(len(y), 32))
    store = SignalStore.from_arrays(np.stack([x.real, x.imag], 1).astype(np.float32), y)
    dls = build_dataloaders(store, batch_size=16, augment=['PhaseRotation'], val_ratio=.2, test_ratio=.2)
    setup_seed(1)
    return classifier_learner(dls, **network)


def train(network, path, switches, stop=None, resume=False):
    "Two stages; `stop` ends them in that epoch of stage 1."
    from fastai.callback.core import Callback

    def end(self):
        if self.epoch == stop: raise Stop('here')
    learn = learner(network)
    cbs = [Callback(before_epoch=end)] if stop else []
    stages = [Stage1(epochs=3, ema_decay=.9, accumulate=20), Stage2(epochs=2, mode='finetune', optimizer='SGD')]
    with learn.no_bar(), learn.no_logging():
        fit_stages(learn, stages, path, resume=resume, cbs=cbs, speed=dict.fromkeys(switches, True),
                   evaluate=lambda ctx, res: dict(rows={}))
    return learn


def same_after_a_stop(network, folder, switches):
    whole = train(network, folder/'whole', switches)
    with pytest.raises(Stop): train(network, folder/'parts', switches, stop=2)
    parts = train(network, folder/'parts', switches, resume=True)
    for (k, a), b in zip(whole.model.state_dict().items(), parts.model.state_dict().values()):
        assert torch.equal(a, b) and a.is_contiguous() and '_orig_mod' not in k, k
    plain = learner(network)
    load_weights(plain, folder/'whole'/'stage2.safetensors')
    assert torch.equal(predict(plain, plain.dls.test).logits, predict(whole, whole.dls.test).logits)
    with pytest.raises(ConfigError, match='speed'): train(network, folder/'parts', [], resume=True)
    return whole


@pytest.mark.parametrize('name', SWITCHES)
def test_resumed(tmp_path, name):
    fast = same_after_a_stop(SWITCHES[name], tmp_path, [name])
    slow = train(SWITCHES[name], None, [])
    pairs = list(zip(fast.model.parameters(), slow.model.parameters()))
    assert any(not torch.equal(a, b) for a, b in pairs), 'the switch did nothing'


@pytest.mark.slow # a compiler is called for each size of batch
def test_resumed_compiled(tmp_path):
    same_after_a_stop(SIGNALS, tmp_path, ['compile'])


@pytest.mark.parametrize('name', ['ConvNetADSB', 'DualViewNet', 'MixtureOfExpertsConvNet', 'GRU2', 'resnet10_cbam'])
def test_bfloat16_of_a_processor(name):
    model = create_model(name, 4, **models.info[name].get('example', {}))
    with torch.autocast('cpu', torch.bfloat16): z = model(torch.randn(4, 2, 128))
    z.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in model.parameters())


def test_a_run_with_switches_is_used_like_any(tmp_path):
    run = run_experiment({'synth.n_classes': 3, 'synth.n_max': 20, 'synth.n_valid': 5, 'synth.n_test': 5, 'speed.fused': True, 'speed.bf16': True,
                          'visualization.enabled': False, 'stages': ['stage1'], 'training.epochs': 1, 'model.options': {}, 'progress': False,
                          'device': 'cpu', 'out_dir': str(tmp_path)})
    table = Recognizer.from_run(run.path).predict(np.random.default_rng(0).normal(size=(2, 2, 4800)).astype(np.float32))
    assert len(table) == 2
    with pytest.raises(ConfigError, match='speed.tf32'): run_experiment({'speed.tf32': True, 'device': 'cpu', 'out_dir': str(tmp_path/'none')})
    assert not (tmp_path/'none').exists()
