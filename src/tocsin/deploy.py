"""``deploy``: marks a deploy, with what the platform's environment variables say about it.

    tocsin.deploy.deploy()

``PLATFORMS`` is the table; to add a platform, add a row.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from tocsin.emitter import current, emit
from tocsin.guard import GUARD, complain

#: A commit of which only this many digits are shown is still recognised.
SHORT_SHA_CHARACTERS = 7


class Platform(NamedTuple):
    """One row: the variables that name the service, the version and the commit; of each, the first one set.

    A platform is recognised by its version or its commit, whichever it has.
    """

    name: str
    service: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    git_sha: tuple[str, ...] = ()


PLATFORMS = (
    Platform("Railway", ("RAILWAY_SERVICE_NAME",), git_sha=("RAILWAY_GIT_COMMIT_SHA",)),
    Platform("Railway, not from Git", ("RAILWAY_SERVICE_NAME",), ("RAILWAY_DEPLOYMENT_ID",)),
    Platform(
        "Heroku (dyno metadata)",
        ("HEROKU_APP_NAME",),
        ("HEROKU_RELEASE_VERSION",),
        ("HEROKU_BUILD_COMMIT", "HEROKU_SLUG_COMMIT"),
    ),
    Platform("Render", ("RENDER_SERVICE_NAME",), git_sha=("RENDER_GIT_COMMIT",)),
    Platform("Fly.io", ("FLY_APP_NAME",), ("FLY_IMAGE_REF",)),
    Platform("Cloud Run", ("K_SERVICE",), ("K_REVISION",)),
    Platform("Google App Engine", ("GAE_SERVICE",), ("GAE_VERSION",)),
    Platform("Vercel", git_sha=("VERCEL_GIT_COMMIT_SHA",)),
    Platform("GitHub Actions", git_sha=("GITHUB_SHA",)),
    Platform("GitLab CI", version=("CI_COMMIT_TAG",), git_sha=("CI_COMMIT_SHA",)),
    Platform("AWS CodeBuild", git_sha=("CODEBUILD_RESOLVED_SOURCE_VERSION",)),
)

_complained = False


def deploy(
    *,
    service: str | None = None,
    version: str | None = None,
    git_sha: str | None = None,
    status: str = "success",
    **fields: Any,
) -> None:
    """Prints the event ``deploy``. An argument wins over the environment.

    ``version`` comes from TOCSIN_VERSION or the platform, else it is the commit in short; ``git_sha`` from
    TOCSIN_GIT_SHA or the platform; ``service`` from ``configure`` or the platform. ``status`` is success or
    error. If neither version nor commit is known, nothing is printed, and one line on standard error says so.
    Call it once for each deploy, not in each worker: every line is a deploy. Never raises.
    """
    try:
        known = detect(os.environ)
        version, git_sha = version or known["version"], git_sha or known["git_sha"]
        service = service or current().settings.service or known["service"]
        if version or git_sha:
            version = version or str(git_sha)[:SHORT_SHA_CHARACTERS]
            emit("deploy", service=service, version=version, git_sha=git_sha, status=status, **fields)
        else:
            _complain_once()
    except Exception as error:
        GUARD.failed("deploy", error)


def detect(environ: Mapping[str, str]) -> dict[str, str | None]:
    """``service``, ``version`` and ``git_sha`` as the environment tells them; None if it does not."""
    known = (_read(platform, environ) for platform in PLATFORMS)
    found = next((one for one in known if one["version"] or one["git_sha"]), dict.fromkeys(_NAMES))
    given = {"version": "TOCSIN_VERSION", "git_sha": "TOCSIN_GIT_SHA"}
    return {**found, **{name: _first((given[name],), environ) or found[name] for name in given}}


_NAMES = ("service", "version", "git_sha")


def _read(platform: Platform, environ: Mapping[str, str]) -> dict[str, str | None]:
    version = _first(platform.version, environ)
    return {
        "service": _first(platform.service, environ),
        "version": version and version.rpartition(":")[2],  # of an image only its tag
        "git_sha": _first(platform.git_sha, environ),
    }


def _first(variables: tuple[str, ...], environ: Mapping[str, str]) -> str | None:
    return next((value for name in variables if (value := environ.get(name, "").strip())), None)


def _complain_once() -> None:
    global _complained
    if not _complained:
        _complained = True
        complain("deploy: neither version nor commit is known, nothing is printed: set TOCSIN_VERSION")
