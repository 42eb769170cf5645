"""Uses a pool as the OpenAI SDK's users do, and says what it should not have seen.

The pool has the key that is given, serves the model `mini`, makes one video at a time
and lets two wait.

    sdk.py BASE_URL KEY FOLDER        # FOLDER gets first.mp4, first.png, ids.json
"""

import json
import sys
import warnings
from pathlib import Path

import openai

PROMPT = "a large red ball bounces over green hills"
# The SDK knows that its own vendor's server ends.
warnings.filterwarnings("ignore", category=DeprecationWarning)


def main(base_url, key, folder):
    client = openai.OpenAI(api_key=key, base_url=base_url, max_retries=0)
    assert [model.id for model in client.models.list()] == ["mini"]
    first = make(client, Path(folder))
    second = client.videos.create_and_poll(
        prompt=PROMPT, seconds="0.5", model="mini", size="128x128", poll_interval_ms=100
    )
    assert second.status == "completed", second
    Path(folder, "ids.json").write_text(json.dumps([first, second.id]))
    list_by_pages(client, [first, second.id])
    delete(client, second.id)
    list_by_pages(client, [first])
    refuse(client)
    refuse_what_is_too_much(client)
    list_by_pages(client, [first])


def make(client, folder):
    video = client.videos.create(prompt=PROMPT, seconds="1", extra_body={"seed": 7})
    assert video.object == "video" and video.status in ("queued", "in_progress"), video
    assert (video.prompt, video.seconds, video.size) == (PROMPT, "1", "128x128"), video
    assert video.model == "mini" and video.seed == 7, video
    early = expect(openai.NotFoundError, lambda: client.videos.download_content(video.id))
    assert early.code == "not_ready", early

    video = client.videos.poll(video.id, poll_interval_ms=100)

    assert (video.status, video.progress, video.error) == ("completed", 100, None), video
    assert video.created_at <= video.completed_at, video
    client.videos.download_content(video.id).write_to_file(folder / "first.mp4")
    picture = client.videos.download_content(video.id, variant="thumbnail")
    assert picture.response.headers["content-type"] == "image/png"
    (folder / "first.png").write_bytes(picture.read())
    return video.id


def list_by_pages(client, ids):
    """The SDK follows the cursor by itself."""
    pages = list(client.videos.list(limit=1, order="asc").iter_pages())
    assert [page.has_more for page in pages] == [True] * (len(ids) - 1) + [False], pages
    assert [video.id for page in pages for video in page.data] == ids, pages
    assert [video.id for video in client.videos.list()] == ids[::-1]


def delete(client, id):
    deleted = client.videos.delete(id)
    assert (deleted.id, deleted.deleted, deleted.object) == (id, True, "video.deleted"), deleted
    expect(openai.NotFoundError, lambda: client.videos.retrieve(id))
    expect(openai.NotFoundError, lambda: client.videos.download_content(id))
    expect(openai.NotFoundError, lambda: client.videos.delete(id))


def refuse(client):
    stranger = client.with_options(api_key="stranger")
    error = expect(openai.AuthenticationError, lambda: stranger.videos.list())
    assert error.code == "invalid_api_key", error
    for param, wish in [
        ("seconds", {"seconds": "-1"}),
        ("size", {"size": "large"}),
        ("model", {"model": "sora-2"}),
        ("seed", {"extra_body": {"seed": "x"}}),
        ("input_reference", {"input_reference": ("a.png", b"\x89PNG", "image/png")}),
    ]:
        error = expect(
            openai.BadRequestError, lambda: client.videos.create(prompt=PROMPT, **wish)
        )
        assert error.param == param and param in error.message, (error.param, error)
    error = expect(openai.BadRequestError, lambda: client.videos.list(after="nothing"))
    assert error.param == "after", error


def refuse_what_is_too_much(client):
    create = lambda: client.videos.create(prompt=PROMPT, seconds="60")
    videos = [create() for _ in range(3)]

    error = expect(openai.RateLimitError, create)

    seconds = int(error.response.headers["retry-after"])
    assert 0 < seconds and f"in about {seconds} s" in error.message, error
    for video in videos:
        client.videos.delete(video.id)


def expect(kind, call):
    try:
        answer = call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected: {answer}")


if __name__ == "__main__":
    main(*sys.argv[1:])
