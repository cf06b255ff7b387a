"""Methods for long tails as a user reaches them: by the configuration of a run, and the contracts of what they register."""
import json

import pytest
import torch
from fastai.callback.core import Callback

from lt_signals.core.errors import ConfigError, LTSError
from lt_signals.core.random import setup_seed
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.losses.base import losses
from lt_signals.models.base import heads
from lt_signals.runs.experiment import run_experiment
from lt_signals.runs.results import load_run
from lt_signals.synth.emitters import synth_emitters
from lt_signals.tasks.config import make_run_config
from lt_signals.testing import check_head, check_loss, check_stage
from lt_signals.training.classifier_stages import Stage1, Stage2
from lt_signals.training.fit import fit_stages
from lt_signals.training.learner import classifier_learner

EXPERTS = {'model.name': 'SharedExpertsResNet', 'model.options': {'depth': 2, 'width': 8}}
PLAIN = {'model.name': 'ResNet1D'}


def options(**more): return {'model.options': {'depth': 2, 'width': 8, **more}}


def configured(tmp_path, *given, **more):
    "The configuration of a short run on a small long tail."
    small = {'synth.n_classes': 5, 'synth.n_max': 24, 'synth.imbalance_ratio': 8, 'synth.n_valid': 3, 'synth.n_test': 4,
             'training.epochs': 1, 'data.batch_size': 16, 'visualization.enabled': False, 'out_dir': str(tmp_path),
             'progress': False, 'device': 'cpu', 'exp_name': 'run'}
    of_stage = {'stage2.epochs': 1} if any(k.startswith('stage2.') for g in given for k in g) else {}
    return make_run_config(small, of_stage, *given, more)


def run(*args, **kwargs): return load_run(run_experiment(configured(*args, **kwargs)).path)


@pytest.mark.parametrize('name', ['experts', 'etf', 'contrast'])
def test_heads_keep_the_contract(name):
    assert name in heads
    check_head(name)


@pytest.mark.parametrize('name', ['BalPoE', 'SADE', 'BCL', 'LabelAwareSmoothing', 'LORT', 'DotRegression'])
def test_losses_keep_the_contract(name):
    assert losses.info[name]['source']
    check_loss(name)


def test_experts_with_diversity_keep_the_contract():
    check_loss('BalPoE', diversity=.2)
    check_loss('Combined', losses={'BalPoE': 1., 'CrossEntropy': .5})


@pytest.mark.parametrize('loss,more', [('BalPoE', {'training.mixup': .2}), ('SADE', {'loss.options': {'diversity': .1}})])
def test_experts_run_from_a_configuration(tmp_path, loss, more):
    res = run(tmp_path, EXPERTS, {'loss.name': loss, 'stages': ['stage1', 'test_shifts', 'aggregate']}, more)
    first, shifts, last = res['stages']
    assert first['prior']['adjusted'] and sum(last['shares']) == pytest.approx(1, abs=1e-4)
    assert set(shifts['shifts']) == {'forward-50', 'forward-10', 'uniform', 'backward-10', 'backward-50'}
    assert shifts['shifts']['uniform']['accuracy'] == pytest.approx(first['rows']['test']['overall'], abs=1e-5)
    assert len(shifts['shifts']['backward-50']['experts']) == 3


@pytest.mark.parametrize('given', [
    PLAIN | options(head='contrast') | {'loss.name': 'BCL', 'training.views': [{'PhaseNoise': {}}, {'IQImbalance': {}}], 'stages': ['stage1']},
    PLAIN | options(head='etf') | {'loss.name': 'DotRegression', 'stages': ['stage1']},
    PLAIN | options() | {'stages': ['stage1', 'crt'], 'stage2.loss': 'LORT', 'stage2.sampler': 'none'},
    PLAIN | options() | {'stages': ['stage1', 'maxnorm'], 'stage2.loss': 'ClassBalanced', 'stage2.sampler': 'none', 'stage2.decay': .1},
    PLAIN | options() | {'stages': ['stage1', 'lws'], 'stage2.loss': 'LabelAwareSmoothing', 'stage2.shift_bn': True,
                         'training.mixup': .2},
    PLAIN | options() | {'stages': ['stage1', 'crt'], 'stage2.sampler_options': {'cycle': True}},
    PLAIN | options() | {'stages': ['stage1'], 'sampling.name': 'class_uniform', 'sampling.cycle': True,
                         'data.augment': ['PhaseNoise', 'IQImbalance']}])
def test_methods_run_from_a_configuration(tmp_path, given):
    res = run(tmp_path, given)
    assert res['stages'][-1]['rows']['test']['overall'] is not None
    json.dumps(res)


@pytest.mark.parametrize('given,said', [
    (PLAIN | options() | {'loss.name': 'BalPoE'}, 'model.name=SharedExpertsConvNet'),
    (PLAIN | options() | {'loss.name': 'BCL'}, 'model.options.head=contrast'),
    (PLAIN | options() | {'loss.name': 'DotRegression'}, 'model.options.head=etf'),
    (PLAIN | options() | {'training.views': ['PhaseNoise']}, 'two views'),
    (PLAIN | options(head='contrast') | {'loss.name': 'BCL', 'training.mixup': .2}, 'set mixup to 0'),
    (PLAIN | options() | {'sampling.name': 'sqrt', 'sampling.cycle': True}, 'option of class_uniform'),
    (PLAIN | options() | {'stages': ['stage1', 'aggregate']}, 'has no experts'),
    (PLAIN | options(head='cosine') | {'stages': ['stage1', 'maxnorm'], 'stage2.max_norm': .5}, 'maxnorm'),
    (EXPERTS | {'loss.name': 'BalPoE', 'loss.options': {'biases': [0, 0]}}, 'model.options.n_experts')])
def test_what_does_not_go_together_is_told_before_anything_runs(tmp_path, given, said):
    with pytest.raises((ConfigError, LTSError), match=said.replace('.', r'\.')): run(tmp_path, given)
    assert not any(tmp_path.iterdir())


def learner(model='ResNet1D', loss='CrossEntropy', **how):
    "A learner on a small long tail, the same each time."
    setup_seed(0)
    made = synth_emitters(5, 24, 8., n_valid=3, n_test=4, seed=1)
    dls = build_dataloaders(made, batch_size=16, augment=['PhaseRotation'], seed=1, device='cpu')
    return classifier_learner(dls, model, loss, depth=2, width=8, **how)


@pytest.mark.parametrize('name', ['maxnorm', 'aggregate', 'test_shifts'])
def test_stages_keep_the_contract(name):
    settings = {'epochs': 1} if name == 'maxnorm' else {}
    check_stage(name, (lambda: learner('SharedExpertsResNet')) if name == 'aggregate' else learner, **settings)


class Stop(Callback):
    "End the process's work at the beginning of an epoch of a stage."
    def __init__(self, at): self.at = at
    def before_epoch(self):
        self.at -= 1
        if self.at < 0: raise KeyboardInterrupt


@pytest.mark.parametrize('how,stages', [
    (dict(loss='BCL', head='contrast'), [Stage1(epochs=2, monitor='train_loss', views=[{'RandomNoiseSNR': dict(snr_range=(5, 20), p=1.)}])]),
    (dict(model='SharedExpertsResNet', loss='BalPoE'), [Stage1(epochs=2, monitor='train_loss', mixup=.2)]),
    (dict(), [Stage1(epochs=1), Stage2(mode='maxnorm', epochs=2, lr=.05, monitor='train_loss', sampler_options=dict(cycle=True))])])
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, how, stages):
    at = sum(s.epochs for s in stages) - 1 # stops before the last epoch
    whole, stopped, resumed = (learner(**how) for _ in range(3))
    for o in (whole, stopped, resumed): o.remove_cbs([c for c in o.cbs if type(c).__name__ in ('ProgressCallback',)])
    with whole.no_logging(): fit_stages(whole, stages, tmp_path/'whole')
    with pytest.raises(KeyboardInterrupt), stopped.no_logging(): fit_stages(stopped, stages, tmp_path/'run', cbs=[Stop(at)])
    with resumed.no_logging(): fit_stages(resumed, stages, tmp_path/'run', resume=True)
    a, b = whole.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], v) for k,v in stopped.model.state_dict().items())
