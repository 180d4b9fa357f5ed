"""The command line: light to start, clear about mistakes."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import torch
import upstream_files
import yaml
from toy_data import MODEL, alloys, options, write

from petmad.cli import main, make_parser
from petmad.model import PETConfig, Potential, TargetSpec
from petmad.output_files import export_hint
from petmad.training import checkpoint
from petmad.training.report import write_json


def test_version_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from petmad.cli import main\n"
        "try:\n"
        "    main(['--version'])\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'lightning', 'ase', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("petmad ")


def test_train_needs_options(capsys):
    assert main(["train"]) == 1
    assert "petmad train --describe" in capsys.readouterr().err


def test_train_describes_its_options(capsys):
    assert main(["train", "--describe"]) == 0
    assert "learning_rate: 0.0001" in capsys.readouterr().out


def test_train_names_a_misspelt_option(tmp_path, capsys):
    values = options(tmp_path)
    values["training"]["epoch"] = 3
    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main(["train", str(path)]) == 1
    message = capsys.readouterr().err
    assert message.startswith("petmad: error: ")
    assert "did you mean `training.epochs`?" in message


def test_missing_extra_is_named(tmp_path, monkeypatch, capsys):
    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump(options(tmp_path)))
    for name in [n for n in sys.modules if n.startswith("petmad.training.trainer")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightning", None)
    assert main(["train", str(path)]) == 1
    message = capsys.readouterr().err
    assert "needs lightning, which is not installed; `pip install 'petmad[train]'`" in (
        message
    )


def test_train_into_another_folder(tmp_path, capsys):
    values = options(tmp_path, epochs=1)
    path = tmp_path / "options.yaml"
    path.write_text(yaml.safe_dump(values))
    assert main(["train", str(path), "--output", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "best.ckpt").is_file()
    assert not (tmp_path / "run").exists()
    assert f"petmad export {tmp_path}/there/best.ckpt" in capsys.readouterr().out


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    potential = checkpoint.make_potential(
        PETConfig(**MODEL), [29, 79], [TargetSpec()], "float32"
    )
    checkpoint.save(tmp_path / "a.ckpt", potential, {})
    return str(tmp_path / "a.ckpt")


def test_evaluate_prints_a_table(tmp_path, model, capsys):
    file = write(tmp_path / "a.xyz", alloys(2))
    assert main(["evaluate", model, file]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["MAE", "RMSE"]
    assert [(row[0], row[-1]) for row in rows[1:4]] == [
        ("energy", "meV/atom"),
        ("forces", "meV/Å"),
        ("strain", "meV/atom"),
    ]
    parts = ["Cu", "Au", *(f"forces_{x}" for x in "xyz")]
    voigt = ("xx", "yy", "zz", "yz", "xz", "xy")
    assert [row[0] for row in rows[4:]] == [*parts, *(f"strain_{x}" for x in voigt)]
    assert all(0 < float(row[1]) <= float(row[2]) for row in rows[1:])


def test_exported_model_has_the_same_errors(tmp_path, model, capsys):
    file = write(tmp_path / "a.xyz", alloys(2))
    exported = str(tmp_path / "a.pt")
    assert main(["evaluate", model, file]) == 0
    expected = capsys.readouterr().out
    assert main(["export", model, "-o", exported]) == 0
    capsys.readouterr()
    assert main(["evaluate", exported, file]) == 0
    for ours, theirs in zip(
        capsys.readouterr().out.splitlines()[1:], expected.splitlines()[1:], strict=True
    ):
        for a, b in zip(ours.split()[1:3], theirs.split()[1:3], strict=True):
            assert float(a) == pytest.approx(float(b), rel=1e-4)


def test_evaluate_refuses_an_unknown_element(tmp_path, model, capsys):
    atoms = alloys(1)[0]
    atoms.numbers[0] = 47
    file = write(tmp_path / "a.xyz", [atoms])
    assert main(["evaluate", model, file]) == 1
    assert "has Ag, unknown to the model, which knows Cu, Au" in capsys.readouterr().err


def test_outputs_are_looked_at_before_the_work(tmp_path, model, monkeypatch, capsys):
    """None of these reads its input, which is not there."""
    (tmp_path / "afile").write_text("")
    yaml_file = tmp_path / "options.yaml"
    yaml_file.write_text(yaml.safe_dump(options(tmp_path)))
    (tmp_path / "train.xyz").unlink()
    nowhere = str(tmp_path / "nowhere")
    for command, message in (
        (["train", str(yaml_file), "--output", f"{tmp_path}/afile/x"], "afile is a fi"),
        (["uncertainty", "fit", "no.ckpt", "-o", str(tmp_path)], "is a folder"),
        (["uncertainty", "fit", "no.ckpt", "-o", f"{nowhere}/x.ckpt"], "make the fol"),
        (["data", "convert", "no.xyz", "-o", f"{nowhere}/x.aselmdb"], "make the fol"),
        (["export", "no.ckpt", "--aoti", "-o", f"{nowhere}/x.pt2"], "make the fold"),
    ):
        assert main(command) == 1
        assert message in capsys.readouterr().err
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert main(["train", str(yaml_file), "--output", nowhere]) == 1
    assert "does not admit it" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_inputs_are_not_written_over(tmp_path, model, monkeypatch, capsys):
    """Nor is one output by another; by whatever link they are named."""
    file = write(tmp_path / "a.xyz", alloys(2))
    reference, link = str(tmp_path / "reference.json"), str(tmp_path / "link")
    pathlib.Path(reference).write_text("{}")
    os.link(file, link)
    (tmp_path / "options.yaml").write_text(yaml.safe_dump(options(tmp_path)))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    new = str(tmp_path / "new")
    evaluate, fit = ["evaluate", model, file], ["uncertainty", "fit", model]
    convert = ["convert", model, "--to", "metatrain"]
    for command, path, other in (
        ([*evaluate, "--predictions", "a.xyz"], "a.xyz", file),
        ([*evaluate, "--report", link], link, file),
        ([*evaluate, "--errors", model], model, model),
        ([*evaluate, "--errors", "new", "--report", new], new, "new"),
        (["export", model, "-o", "a.ckpt"], "a.ckpt", model),
        ([*fit, "-o", model], model, model),
        ([*fit, "--train", file, "--valid", file, "-o", link], link, file),
        ([*convert, "-o", model], model, model),
        ([*convert, "-o", file, "--check", file, reference], file, file),
        (["data", "convert", file, "-o", link], link, file),
        (["train", "options.yaml", "--output", "."], "options.yaml", "options.yaml"),
    ):
        assert main(command) == 1
        told = capsys.readouterr().err
        assert f"error: {path} would be written over {other}, which" in told
        mend = "another `--output`" if command[0] == "train" else "another file"
        assert told.endswith(f"name {mend}\n")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_default_outputs_take_no_files_place(tmp_path, model, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "model.pt"
    mine.write_text("mine")
    for command in ("export", "convert"):
        assert main([command, model]) == 1
        assert "model.pt is there already; name the file" in capsys.readouterr().err
        assert mine.read_text() == "mine"
    assert main(["export", model, "-o", "model.pt"]) == 0
    mine.unlink()
    assert main(["export", model]) == 0
    assert mine.is_file()


def test_exported_files_are_not_called_otherwise(tmp_path, model, capsys):
    for suffix, kind in ((".ckpt", "a checkpoint"), (".pt2", "petmad export --aoti")):
        path = tmp_path / f"new{suffix}"
        assert main(["export", model, "-o", str(path)]) == 1
        told = capsys.readouterr().err
        assert kind in told
        assert f"call it {tmp_path}/new.pt" in told
        assert not path.exists()


def test_an_exported_file_needs_no_export(tmp_path, model, capsys):
    """Whatever it is called; and torch warns of nothing."""
    path = tmp_path / "model.pt"
    assert main(["export", model, "-o", str(path)]) == 0
    shutil.copy(path, tmp_path / "renamed.ckpt")
    for name in ("model.pt", "renamed.ckpt"):
        assert main(["export", str(tmp_path / name), "-o", "x.pt"]) == 1
        assert "is an exported model file already" in capsys.readouterr().err


def test_checkpoints_of_metatrain_are_to_be_converted(tmp_path, capsys):
    potential = Potential(PETConfig(**MODEL), [29, 79])
    path, renamed = tmp_path / "their model.ckpt", tmp_path / "theirs.pt"
    upstream_files.save(upstream_files.newest(potential), path)
    shutil.copy(path, renamed)
    file = write(tmp_path / "a.xyz", alloys(2))
    values = options(tmp_path)
    values["training"]["start_from"] = str(path)
    (tmp_path / "options.yaml").write_text(yaml.safe_dump(values))
    hint = f"petmad convert '{path}' -o model.pt"
    for command, told in (
        (["export", str(path)], hint),
        (["evaluate", str(path), file], hint),
        (["info", str(path)], hint),
        (["uncertainty", "fit", str(path)], hint),
        (["train", str(tmp_path / "options.yaml")], hint),
        (["info", str(renamed)], f"petmad convert {renamed} -o model.pt"),
        (["uncertainty", "fit", str(renamed)], f"petmad convert {renamed} -o model"),
    ):
        assert main(command) == 1
        error = capsys.readouterr().err
        assert "is a checkpoint of metatrain" in error
        assert told in error


def test_info_of_what_is_no_model_file(tmp_path, model, capsys):
    for path, message in (
        (str(tmp_path), f"{tmp_path} is a folder; give"),
        (
            model,
            f"is a checkpoint, not a model file; export it with: petmad export {model}",
        ),
    ):
        assert main(["info", path]) == 1
        assert message in capsys.readouterr().err


def test_interrupted_outputs_are_as_they_were(tmp_path, monkeypatch):
    def interrupted(self, text):
        self.write_bytes(text[:5].encode())
        raise KeyboardInterrupt

    path = tmp_path / "errors.json"
    write_json(path, {"first": 1})
    before = path.read_text()
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_text", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_json(path, {"second": 2})
    assert path.read_text() == before
    link = tmp_path / "link.json"
    link.symlink_to(path)
    write_json(link, {"third": 3})  # as /dev/stdout is one
    assert link.is_symlink()
    assert "third" in path.read_text()
    assert sorted(tmp_path.iterdir()) == [path, link]


def test_errors_of_the_system_are_one_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "options.yaml"
    path.write_text("")

    def refuse(self, *arguments, **keywords):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    assert main(["train", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"petmad: error: {path} cannot be read or written: Permission denied; mend the "
        "path or its permissions\n"
    )


def test_a_closed_pipe_ends_quietly():
    command = [sys.executable, "-m", "petmad.cli", "train", "--describe"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_closed_stream_swallows_what_is_printed():
    command = f"{sys.executable} -m petmad.cli train --describe >&-"
    done = subprocess.run(
        command, shell=True, stderr=subprocess.PIPE, check=False, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_letters_that_a_stream_lacks_are_spelt():
    plain = {"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    for arguments, text in (
        (["evaluate", "--help"], "\\xc5"),
        (["train", "--describe"], "\\xc5"),
        (["info", "Å"], "error: no model file at"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "petmad.cli", *arguments],
            capture_output=True,
            env={**os.environ, **plain},
            check=False,
            text=True,
        )
        assert text in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_hints_can_be_pasted():
    hint = export_hint("my runs/best.ckpt")
    assert hint == "export it with: petmad export 'my runs/best.ckpt' -o model.pt"


@pytest.mark.parametrize("option", ["--lebedev", "--average", "--rotations"])
def test_counts_are_not_negative(option, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "a.ckpt", "a.xyz", option, "-2"])
    assert "must be 0, 1, 2 ..., got -2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--ranks", "0"], "must be a whole number, 1 or more, got 0"),
        (["--nvt-steps", "-5"], "0 or more, got -5"),
        (["--nve-steps", "39"], "40 or more, got 39"),
    ],
)
def test_ranges_of_the_demo(option, message, capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(["demo", *option])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["evaluate"], ["energy-key", "energy-unit", "target", "rotations"]),
        (["uncertainty", "fit"], ["energy-key", "target", "members", "calibration"]),
        (["data", "convert"], ["energy-key", "energy-unit", "virial-key"]),
        (["export"], ["dtype", "name"]),
    ],
)
def test_help_tells_defaults(command, options, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    text = " ".join(capsys.readouterr().out.partition("options:")[2].split())
    for option in options:
        part = text.partition(f"--{option} ")[2].partition(" --")[0]
        assert "default: " in part, option


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit()])
def test_an_interruption_is_told(tmp_path, monkeypatch, capsys, stop):
    """SystemExit without a code is how Lightning ends a training on SIGTERM."""
    path = tmp_path / "options.yaml"
    path.write_text("")

    def interrupt(self, *arguments, **keywords):
        raise stop

    monkeypatch.setattr("pathlib.Path.read_text", interrupt)
    assert main(["train", str(path)]) == 130
    assert "goes on with `--resume`" in capsys.readouterr().err
