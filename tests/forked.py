"""Code that runs as in a new process, without its imports: a fork of this one where there is `os.fork`, else a new interpreter."""
import os, subprocess, sys, tempfile, traceback


def python(code, *args, **env):
    "What a process that runs `code` with these arguments does and says: its exit status (negative: the signal), stdout, stderr."
    if not hasattr(os, 'fork'):
        p = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *map(str, args)], capture_output=True, text=True,
                           env={**os.environ, 'OMP_NUM_THREADS': '1', **env})
        return p.returncode, p.stdout, p.stderr
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0: _child(code, args, env, out, err)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    return status, *said


def _child(code, args, env, out, err):
    "The child of a fork: it never returns."
    status = 1
    try:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout, sys.stderr = os.fdopen(1, 'w', closefd=False), os.fdopen(2, 'w', closefd=False)
        os.environ.update(env)
        sys.argv = ['-c', *map(str, args)]
        import torch, warnings
        warnings.simplefilter('ignore')
        torch.set_num_threads(1)
        exec(compile(code, '<child>', 'exec'), {'__name__': '__main__'})
        status = 0
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else int(e.code is not None)
        if isinstance(e.code, str): print(e.code, file=sys.stderr)
    except BaseException: traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
