"Smoke test of the installed package without nbdev: every module imports, the doctor finds nothing, a small run trains, stops and resumes."
import contextlib, importlib, io, pkgutil, sys, tempfile, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import fastai, fastcore, torch

import lt_signals

assert 'site-packages' in lt_signals.__file__, f'the checkout was imported, not the installed package: {lt_signals.__file__}'
diffusion = ('evaluation.generator_score', 'models.denoisers', 'models.diffusion', 'training.generator', 'training.generator_stage')
extras = {**{f'lt_signals.evaluation.{m}': 'openset' for m in ('openscores', 'later_scores')}, **{f'lt_signals.{m}': 'diffusion' for m in diffusion}} # they say so
modules = {m.name for m in pkgutil.walk_packages(lt_signals.__path__, 'lt_signals.') if not m.name.endswith('_modidx')}
apps = set() # what needs the extra `apps`, which is not installed here
for name in sorted(modules - {*extras}):
    try: importlib.import_module(name)
    except ModuleNotFoundError as e:
        assert e.name == 'ipywidgets' and name.startswith('lt_signals.apps.'), f'{name}: {e}'
        apps.add(name)
for name, extra in extras.items():
    try: importlib.import_module(name)
    except ValueError as e: assert f"pip install 'lt_signals[{extra}]'" in str(e), e
    else: raise AssertionError(f'{name} imports without the extra {extra!r}: list it with the others')
assert 'ipywidgets' not in sys.modules, 'the library imports ipywidgets'
assert 'nbdev' not in sys.modules, 'the library imports nbdev'
print(f'{len(modules - apps - {*extras})} modules import; fastai {fastai.__version__}, fastcore {fastcore.__version__}, torch {torch.__version__}')

from lt_signals.apps.doctor import format_check, run_doctor

report = run_doctor('cpu', full=True)
bad = [c for c in report if not c.ok]
print('\n'.join(map(format_check, bad)) or f'{len(report)} checks of the doctor pass')

from lt_signals.runs.results import load_model, load_run
from lt_signals.runs.experiment import run_experiment

with tempfile.TemporaryDirectory() as folder:
    small = dict(out_dir=folder, exp_name='smoke', progress=False, synth=dict(n_classes=5, n_max=30, imbalance_ratio=10., n_valid=6, n_test=6),
                 model=dict(name='ResNet1D', options=dict(depth=2, width=8)), training=dict(epochs=2), stage2=dict(epochs=1))
    run = run_experiment(**small)
    stages = list(load_run(run.path)['summary'])
    assert stages == ['stage1', 'stage2', 'stage3'], stages
    assert (run.plots/'confusion.png').stat().st_size > 0
    assert load_model(run.path)(torch.randn(2, 2, 512)).shape == (2, 5)
    assert run_experiment(**small, resume=True).path == run.path
    print('a run trains, is read back and resumes: ' + ', '.join(stages))
    run = run_experiment(task='amc', out_dir=folder, progress=False, training=dict(epochs=2), amc=dict(mods=['BPSK', 'GMSK'], snr_list=[0, 20], n_per=20))
    assert set(load_run(run.path)['summary']['stage1']) == {'modulation', 'snr', 'combined', 'snr_mae_db'}
    assert (run.plots/'accuracy_vs_snr.png').stat().st_size > 0
    assert {k: tuple(z.shape) for k, z in load_model(run.path)(torch.randn(3, 2, 128)).items()} == dict(modulation=(3, 2), snr=(3, 2))
    print('a run of two tasks trains and is read back')
sys.exit(bool(bad))
