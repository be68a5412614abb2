"""The worker takes the newest item, one at a time, and ends."""

from threading import Event

from harmowam_core.worker import Worker


def test_newest_item_wins_and_work_does_not_overlap() -> None:
    done: list[int] = []
    began, go_on, finished = Event(), Event(), Event()

    def work(item: int) -> None:
        began.set()
        assert go_on.wait(5.0)
        done.append(item)
        if item == 3:
            finished.set()

    worker = Worker(work, "test")
    worker.give(1)
    assert began.wait(5.0)
    worker.give(2)
    worker.give(3)
    go_on.set()
    assert finished.wait(5.0)
    worker.end()
    assert done == [1, 3]


def test_nothing_is_begun_after_the_end() -> None:
    done: list[int] = []
    worker = Worker(done.append, "test")
    worker.end()
    worker.give(1)
    assert done == []
