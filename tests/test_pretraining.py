"""Learning without labels, and what is tuned after it, as a user reaches them: by the configuration of a run; and what labels must not do."""
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fastai.callback.core import Callback

from lt_signals.core.errors import ConfigError, LTSError
from lt_signals.core.random import setup_seed
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.data.pairs import unlabelled_rows
from lt_signals.data.splits import Split
from lt_signals.io.signal_store import SignalStore
from lt_signals.models.base import create_model, models
from lt_signals.models.pretext import pretexts
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.finished import load_finished
from lt_signals.runs.results import load_run
from lt_signals.tasks.config import make_run_config
from lt_signals.testing import check_stage
from lt_signals.training.classifier_stages import Stage1, Stage2
from lt_signals.training.fit import check_stages, fit_stages
from lt_signals.training.learner import classifier_learner
from lt_signals.training.pretraining import pair_augment, Pretrain
from lt_signals.training.stages import TrainContext

TINY = dict(depth=2, width=4)


def waves(labels, seed=0):
    "A store of noisy tones, four windows to a recording."
    rng, n = np.random.default_rng(seed), len(labels)
    z = np.exp(2j*np.pi*(.05 + .01*(np.arange(n)//4))[:, None]*np.arange(64)) + .3*(rng.normal(size=(n, 64)) + 1j*rng.normal(size=(n, 64)))
    x = np.stack([z.real, z.imag], 1).astype(np.float32)
    return SignalStore.from_arrays(x, np.asarray(labels), list('abc'), pd.DataFrame(dict(capture=np.arange(n)//4)))


def learner(labels=np.arange(48) % 3, split=None, model='ResNet1D', **options):
    split = split or Split(np.arange(32), np.arange(32, 40), np.arange(40, 48))
    dls = build_dataloaders(waves(labels), split=split, batch_size=8, device='cpu')
    setup_seed(0)
    return classifier_learner(dls, model, **(options or TINY))


def weights(learn): return torch.cat([p.detach().flatten() for p in learn.model.backbone.state_dict().values()])


def pretrained(learn, **settings):
    "Weights before the head after a short stage."
    Pretrain(**dict(epochs=2, batch_size=16) | settings).run(TrainContext(learn, save=lambda fit=None: None))
    return weights(learn)


@pytest.mark.parametrize('name,settings', [('pretrain', dict(epochs=2, batch_size=16)), ('lora', dict(epochs=1, rank=2))])
def test_stages_keep_the_contract(name, settings): check_stage(name, learner, **settings)


@pytest.mark.parametrize('method', list(pretexts))
def test_labels_never_enter(method):
    a, b = (pretrained(learner(y), method=method) for y in (np.arange(48) % 3, np.random.default_rng(0).permutation(np.arange(48) % 3)))
    assert torch.equal(a, b)
    assert not torch.equal(a, weights(learner()))


def test_the_head_is_left_alone():
    learn = learner()
    head = learn.model.head.weight.detach().clone()
    pretrained(learn)
    assert torch.equal(head, learn.model.head.weight)


def test_signals_without_a_label_are_used_and_held_out_recordings_are_not():
    labels = np.r_[np.arange(16) % 3, np.full(32, -1)]
    labels[[20, 24]] = 0
    learn = learner(labels, Split(np.arange(16), np.array([20]), np.array([24])))
    rows = unlabelled_rows(learn.dls)
    assert set(rows) == set(range(20)) | set(range(28, 48))
    res = Pretrain(epochs=1, batch_size=16).run(TrainContext(learn, save=lambda fit=None: None))
    assert (res['signals'], res['groups']) == (40, 10)


def test_default_augmentation_keeps_a_fingerprint():
    names = {n for o in pair_augment for n in ([o] if isinstance(o, str) else o)}
    assert not names & {'CarrierOffset', 'IQImbalance', 'IQSwap', 'PhaseNoise', 'Fading'}


@pytest.mark.parametrize('method', list(pretexts))
def test_every_network_learns_without_labels(method):
    x, groups = torch.randn(4, 2, 128, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 0, 1, 1])
    for name in models.where(input='iq'):
        net = create_model(name, 3)
        way = pretexts[method](net, dim=4)
        way.loss(way(x), groups).backward()
        lost = [k for k, p in net.named_parameters() if (p.grad is None) != k.startswith('head.')]
        assert not lost, (name, lost)


class Kill(Callback):
    "Stop a run at the end of an epoch of its first stage."
    order = 200
    def after_epoch(self):
        if self.epoch == 1 and not self.learn.metrics: raise KeyboardInterrupt


@pytest.mark.parametrize('method', list(pretexts))
def test_killed_within_and_resumed(tmp_path, method):
    def run(path, cbs=None, resume=False):
        learn = learner()
        todo = [Pretrain(method=method, epochs=3, batch_size=16), Stage2(mode='lora', rank=2, epochs=1), Stage1(epochs=1)]
        with learn.no_bar(), learn.no_logging(): fit_stages(learn, todo, path, resume, seed=3, cbs=cbs)
        return weights(learn)
    whole = run(tmp_path/'a')
    with pytest.raises(KeyboardInterrupt): run(tmp_path/'b', [Kill()])
    assert torch.equal(run(tmp_path/'b', resume=True), whole)


def configured(tmp_path, *given, **more):
    "The configuration of a short run."
    small = {'synth.n_classes': 4, 'synth.n_max': 16, 'synth.imbalance_ratio': 2, 'synth.n_valid': 3, 'synth.n_test': 4, 'data.batch_size': 16,
             'model.name': 'ResNet1D', 'model.options': TINY, 'visualization.enabled': False, 'out_dir': str(tmp_path), 'progress': False,
             'device': 'cpu', 'exp_name': 'run', 'pretrain.epochs': 1, 'pretrain.batch_size': 16}
    return make_run_config(small, *given, more)


@pytest.mark.parametrize('after', ['crt', 'lora', 'stage1'])
def test_runs_from_a_configuration(tmp_path, after):
    own = {'training.epochs': 1} if after == 'stage1' else {'stage2.epochs': 1}
    run = run_experiment(configured(tmp_path, own, stages=['pretrain', after]))
    first, second = load_run(run.path)['stages']
    assert first['mode'] == 'pretrain' and first['history'][0]['train_loss'] > 0 and second['rows']['test']
    assert (run.checkpoints/'pretrain.safetensors').exists()
    model = load_finished(run.path, 'cpu').model
    assert [*model.state_dict()] == [*create_model('ResNet1D', 4, **TINY).state_dict()]  # an ordinary network


def test_what_is_learned_goes_into_another_run(tmp_path):
    run = run_experiment(configured(tmp_path, {'stage2.epochs': 1}, stages=['pretrain', 'crt']))
    learn = classifier_learner(learner().dls, 'ResNet1D', weights=run.checkpoints/'pretrain.safetensors', **TINY)
    kept = load_finished(run.path, 'cpu').model
    assert torch.equal(learn.model.backbone[0][0].weight, kept.backbone[0][0].weight)


@pytest.mark.parametrize('stages,said', [
    ([Stage1(), Pretrain()], 'nothing is trained after it'),
    ([Pretrain(method='mae'), Stage1()], "unknown way to learn without labels 'mae'"),
    ([Pretrain(batch_size=7), Stage1()], 'must be even'),
    ([Pretrain(options=dict(temperature=0.)), Stage1()], '`temperature`'),
    ([Pretrain(augment=['Nothing']), Stage1()], "unknown transform 'Nothing'"),
    ([Pretrain(pairs='recording', group='file'), Stage1()], 'is no column'),
    ([Pretrain(data='/nowhere.h5'), Stage1()], 'does not exist')])
def test_what_cannot_be_is_refused_before_anything_runs(stages, said):
    with pytest.raises(LTSError, match=said.replace('(', r'\(')): check_stages(learner(), stages)


def test_recurrent_networks_have_no_additions():
    with pytest.raises(LTSError, match='LSTM2 has no linear layer'): check_stages(learner(model='LSTM2', dropout_rate=.1), [Stage2(mode='lora')])


def test_other_settings_are_refused_by_the_configuration():
    with pytest.raises(ConfigError, match='one of auto, augmented, recording'): make_run_config({'pretrain.pairs': 'class'}, stages=['pretrain', 'stage1'])
    with pytest.raises(ConfigError, match='section of stage pretrain'): make_run_config({'pretrain.epochs': 1})
