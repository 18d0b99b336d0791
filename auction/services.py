"""Everything that a server consists of, put together; over gRPC or in process, it is the same object."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from auction.attribution import AttributionJudge
from auction.audience.service import AudienceService
from auction.bid.caps.table import FrequencyCaps
from auction.bid.engine import BidEngine
from auction.bid.request import BidBatch
from auction.bid.service import BiddingService, FeedbackQueue
from auction.bid.token import TokenKeys
from auction.campaigns.access import Access
from auction.campaigns.desk import CapsInForce, LiveFigures
from auction.campaigns.model import Campaign
from auction.campaigns.report import ReportBook
from auction.campaigns.service import CampaignsService
from auction.campaigns.store import CampaignStore
from auction.config import ServeConfig
from auction.control import Control
from auction.followers import Followers
from auction.landscape.landscape import LandscapeLearner
from auction.learning import Learner
from auction.predictor.predictor import Predictor
from auction.progress import Progress
from auction.publisher import Publisher
from auction.registry import Registry
from auction.rpc_service import Calls
from auction.scheduler import Scheduler
from auction.simulation_service import SimulationService
from pacing.budget.bank import Bank, BankSettings
from pacing.clocks import Clock, SystemClock, VirtualClock
from pacing.control.history import MarketHistory
from pacing.control.pacer import Pacer
from pacing.control.settings import PacerSettings
from pacing.ledger.log import Ledger
from targeting.graph.follows import FollowGraph
from targeting.segments.store import SegmentStore
from targeting.viewers import ViewerTable

logger = logging.getLogger(__name__)
