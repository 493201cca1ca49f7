"""Answers that are invoices' documents: whole files, to keep."""

from http import HTTPStatus
from typing import Annotated

from litestar import Response
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import PathParameter

from chappe_billing.documents.models import Paper
from chappe_control.public import answers
from chappe_control.public.references import MAX_ID_LENGTH

InvoicePath = Annotated[str, PathParameter(max_length=MAX_ID_LENGTH, description="The invoice's id, `ivc_…`.")]
MEDIA_TYPES = {Paper.PDF: "application/pdf", Paper.XML: "application/xml"}
_PROBLEMS = answers.problems(HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)


def documented(paper: Paper) -> dict[int, ResponseSpec]:
    """For a handler's `responses`."""
    described = ResponseSpec(
        data_container=bytes, media_type=MEDIA_TYPES[paper], description="The document.", generate_examples=False
    )
    return {**_PROBLEMS, HTTPStatus.OK: described}


def as_paper(paper: Paper, number: str, content: bytes) -> Response[bytes]:
    """Named by the invoice's number, as far as that can be a file's name."""
    return Response(
        content,
        media_type=MEDIA_TYPES[paper],
        headers={"content-disposition": f'attachment; filename="{file_name(paper, number)}"'},
    )


def file_name(paper: Paper, number: str) -> str:
    """Of a document by its invoice's number: ASCII, and no path."""
    name = "".join(each if each.isascii() and (each.isalnum() or each in "-_.") else "-" for each in number)
    return f"{name}.{paper}"
