"""Exceptions as gRPC answers."""

from __future__ import annotations

import logging

import grpc
import pytest

from auction.campaigns.access import Forbidden, Unauthenticated
from auction.campaigns.model import InvalidField
from auction.campaigns.store import CampaignLimit, NoSuchCampaign, StoreUnavailable
from auction.status import MAX_MESSAGE_CHARACTERS, Refused, parse, refusal_of
from protos import campaigns_pb2 as pb

CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidField("name", "", "text"), CODE.INVALID_ARGUMENT),
        (ValueError("zone 'x': no"), CODE.INVALID_ARGUMENT),
        (Unauthenticated("who?"), CODE.UNAUTHENTICATED),
        (Forbidden("no"), CODE.PERMISSION_DENIED),
        (NoSuchCampaign(3), CODE.NOT_FOUND),
        (CampaignLimit("full"), CODE.RESOURCE_EXHAUSTED),
        (TimeoutError("late"), CODE.DEADLINE_EXCEEDED),
        (Refused(CODE.ABORTED, "again", "version"), CODE.ABORTED),
    ],
)
def test_each_error_has_its_status_and_its_words(error, code):
    refused = refusal_of(error)
    assert refused.code is code
    assert refused.message == str(error)
    assert refused.field == getattr(error, "field", "")


@pytest.mark.parametrize("error", [RuntimeError("secret detail"), KeyError("x"), ZeroDivisionError(), Exception()])
def test_what_nobody_foresaw_is_logged_and_not_told(error, caplog):
    with caplog.at_level(logging.ERROR, "fanbid.status"):
        refused = refusal_of(error)
    assert refused.code is CODE.UNAVAILABLE
    assert "secret" not in refused.message
    assert caplog.records[0].exc_info[1] is error


def test_what_a_store_says_about_files_and_addresses_is_logged_and_not_told(caplog):
    refused = refusal_of(StoreUnavailable("/srv/a.sqlite: disk is full", told="nothing was changed"))
    assert (refused.code, refused.message) == (CODE.UNAVAILABLE, "nothing was changed")
    assert "/srv/a.sqlite: disk is full" in caplog.text
    assert "/srv" not in refusal_of(StoreUnavailable("/srv/a.sqlite: disk is full")).message


def test_messages_are_bounded():
    assert len(refusal_of(ValueError("x" * 10_000)).message) == MAX_MESSAGE_CHARACTERS


def test_parsing_names_the_message():
    assert parse(pb.GetCampaignRequest, b"").campaign_id == 0
    with pytest.raises(Refused, match=r"3 bytes that are no fanbid\.v1\.GetCampaignRequest"):
        parse(pb.GetCampaignRequest, b"\xff\xff\xff")
