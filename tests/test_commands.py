"""Every `lts_…` command: help and version without what takes long to import, a closed pipe, exit codes, Ctrl-C."""
import os
import signal
import subprocess
import sys
import time
from configparser import ConfigParser
from pathlib import Path

import pytest

parser = ConfigParser(delimiters=['='], interpolation=None)
parser.read(Path(__file__).parents[1]/'settings.ini', encoding='utf-8')
SCRIPTS = dict(line.split('=') for line in parser['DEFAULT']['console_scripts'].split())
BIN = Path(sys.executable).parent
commands = pytest.mark.parametrize('name', SCRIPTS)

ASK = """
import sys
from importlib import import_module
module, _, name = sys.argv[1].partition(':')
command = getattr(import_module(module), name)
for switch in ('--help', '--version'): assert command([switch]) == 0
heavy = {'torch', 'fastai', 'matplotlib', 'pandas', 'numpy', 'scipy', 'sklearn', 'PIL', 'h5py'} & set(sys.modules)
assert not heavy, heavy
"""


@commands
def test_help_is_light_and_narrow(name):
    env = {**os.environ, 'COLUMNS': '72'}
    p = subprocess.run([sys.executable, '-c', ASK, SCRIPTS[name]], capture_output=True, text=True, env=env)
    assert p.returncode == 0, p.stderr
    assert max(map(len, p.stdout.splitlines())) <= 72
    lines = p.stdout.splitlines()
    assert lines[1] == '' or lines[2] == ''  # what it does, then examples
    assert next(line for line in lines if line.startswith('  ')).startswith(f'  {name}')
    assert lines[-1].startswith(f'{name} 0.')


@commands
def test_closed_pipe_is_quiet(name):
    p = subprocess.run(f'{BIN/name} --help | head -1', shell=True, capture_output=True, text=True)
    assert p.stdout.count('\n') == 1 and p.stderr == ''


@commands
def test_bad_usage(name):
    p = subprocess.run([BIN/name, 'no_such_field=1'], capture_output=True, text=True)
    assert p.returncode == 2 and p.stderr.count('\n') == 1 and p.stderr.startswith(f'{name}: no field `no_such_field`')


def test_error_of_the_work():
    p = subprocess.run([BIN/'lts_convert', 'nowhere'], capture_output=True, text=True)
    assert p.returncode == 1 and p.stderr.count('\n') == 1 and 'does not exist' in p.stderr


def test_ctrl_c_says_how_to_go_on(tmp_path):
    args = [str(BIN/'lts_train'), f'out_dir={tmp_path}', 'training.epochs=500', 'data.in_memory=true']
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background starts with Ctrl-C ignored
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    end = time.monotonic() + 240
    while not list(tmp_path.glob('*/logs/training.log')) and time.monotonic() < end and p.poll() is None: time.sleep(.5)
    time.sleep(3)
    p.send_signal(signal.SIGINT)
    try: _, err = p.communicate(timeout=60)
    finally: p.kill()
    assert p.returncode == 130, err
    last = err.strip().splitlines()[-1]
    assert last.startswith('lts_train: stopped; go on with: lts_train ') and last.endswith('training.epochs=500 data.in_memory=true resume=true')
    assert 'Traceback' not in err
