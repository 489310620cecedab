"""Step 4 of data's way: which of the waiting images run together."""

from collections import deque

from service.engine.queue import Job


def take_batch(waiting: deque[Job], *, max_images: int, max_pixels: int) -> list[Job]:
    """Take the oldest live job and those that can run with it, and drop the dead ones passed.

    Images share a batch where height, width and outputs are equal; none is ever padded to fit,
    because padding changes an image's answer. The oldest job always goes first, so a rare size
    does not starve.

    Args:
        waiting: jobs, oldest first; what is taken or dropped is removed.
        max_images: most images in one batch.
        max_pixels: most pixels in one batch; a larger image goes alone. It is at most the
            model's whole-image limit, so a batch needs no more memory than one image may, and
            no image that is to be tiled gets into one.

    Returns:
        Jobs, oldest first; none where no live job waits.
    """
    batch: list[Job] = []
    passed_over: list[Job] = []
    while waiting and len(batch) < max_images:
        job = waiting.popleft()
        if job.answer.done():
            job.lease.let_go()
        elif not batch:
            batch.append(job)
            max_images = min(max_images, max(1, max_pixels // job.pixels))
        elif job.bucket == batch[0].bucket:
            batch.append(job)
        else:
            passed_over.append(job)
    waiting.extendleft(reversed(passed_over))
    return batch
