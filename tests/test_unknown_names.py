"""Every name that a configuration holds: one that is not known is one line that names what is meant, before anything is trained."""
import pytest
from fastai.learner import Learner

from lt_signals.core.errors import LTSError
from lt_signals.runs.experiment import run_experiment

quick = {'progress': False, 'device': 'cpu', 'seed': 1, 'visualization.enabled': False, 'training.epochs': 1, 'stage2.epochs': 1,
         'synth.n_classes': 4, 'synth.n_max': 16, 'synth.imbalance_ratio': 2., 'synth.n_valid': 4, 'synth.n_test': 4,
         'model.name': 'ResNet1D', 'model.options': dict(depth=2, width=8)}
names = [('task', 'emiter', 'emitter'), ('model.name', 'ResNet1', 'ResNet1D'), ('loss.name', 'Focl', 'Focal'), ('sampling.name', 'class_unifrom', 'class_uniform'),
         ('training.optimizer', 'AdmaW', 'AdamW'), ('scheduler.name', 'cosin', 'cosine'), ('early_stopping.monitor', 'valid_los', 'valid_loss'),
         ('stages', ['stage1', 'crtt'], 'crt'), ('stage2.mode', 'crtt', 'crt'), ('stage2.loss', 'Focl', 'Focal'), ('stage2.sampler', 'class_unifrom', 'class_uniform'),
         ('stage3.mode', 'tau_nrm', 'tau_norm'), ('stage3.metric', 'hmm', 'hm'), ('data.normalize', 'rmss', 'rms'), ('data.augment', ['RandomTimeShft'], 'RandomTimeShift'),
         ('openset.score', 'knnn', 'knn'), ('openset.choose', 'rarst', 'rarest'), ('openset.standardize', 'clazz', 'class'), ('evaluation.grouping', 'absolut', 'absolute'),
         ('model.options', dict(head='cosin'), 'cosine'), ('device', 'cpuu', 'cpu')]
amc = [('amc.snr_loss', 'DistancePenalizedSNRs', 'DistancePenalizedSNR'), ('amc.weighting', 'uncertaity', 'uncertainty'), ('amc.mods', ['QPSKK'], 'QPSK'),
       ('amc.tasks', ['modulatin'], 'modulation'), ('scheduler.name', 'plato', 'plateau'), ('model.name', 'ResNet1', 'ResNet1D')]


@pytest.mark.parametrize('task, field, wrong, right', [('emitter', *n) for n in names] + [('amc', *n) for n in amc])
def test_unknown_name(task, field, wrong, right, tmp_path, monkeypatch):
    def fit(*args, **kwargs): raise AssertionError('trained in spite of it')
    monkeypatch.setattr(Learner, 'fit', fit)
    given = {'task': task, 'out_dir': str(tmp_path), **{k: v for k, v in quick.items() if task == 'emitter' or not k.startswith('synth')}}
    if task == 'amc': given |= {'amc.n_per': 8, 'amc.length': 64}
    if field.startswith('openset'): given |= {'openset.score': 'knn', 'openset.n_unknown': 1}
    with pytest.raises(LTSError) as e: run_experiment({**given, field: wrong})
    said, bad = str(e.value), next(iter(wrong.values()), '') if isinstance(wrong, dict) else wrong[-1] if isinstance(wrong, list) else wrong
    rest = said.replace(repr(bad), '').replace(f'({bad})', '')
    assert '\n' not in said and bad in said and right in rest, said
