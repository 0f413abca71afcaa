"""What is said while something takes long."""

from pipeline.data.progress import Progress


def test_progress_has_rate_and_time_to_go(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress("embed text", 1_000, done=200)
    now[0] += 1
    progress.advance(100)  # under two seconds: quiet
    now[0] += 3
    progress.advance(300)
    assert capsys.readouterr().err == "embed text: 600 of 1,000, 100/s, ETA 4 s\n"
