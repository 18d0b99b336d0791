"""The sixteen features of an impression: their order, their keys and how widely each may vary.

A feature is a 32-bit hash; its weight lives in slot `hash & (D - 1)` of a table of D. Six depend on the viewer and
the slot alone, four on the campaign alone, two on the campaign and one bit of the viewer (so they are summed ahead
for both values of the bit), and four on both: those are looked up for each candidate.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

TABLE_BITS = 17
TABLE_SIZE = 1 << TABLE_BITS
FEATURE_COUNT = 16
GOAL_COUNT = 8
LOSS_ROW = 6
"""The row of the weight tables that no impression needs, since kept fans are predicted as fans: it predicts whether a
new fan is lost again. Its rows of features are those of the impressions that gained the fans."""
RISE_ROW = 7
"""The last row: whether a fan who is kept comes to be of a high tier within 30 days; from the features of LOSS_ROW."""
MOST_LOSS = 0.98
"""No fan is given up for lost beyond this probability."""


class Feature(IntEnum):
    """Position of each feature in a row of hashes (and in a token)."""

    BIAS = 0
    REGION = 1
    AGE_BAND = 2
    GENDER = 3
    HOUR = 4
    PLACEMENT = 5
    CAMPAIGN = 6
    CREATOR = 7
    CREATIVE = 8
    CATEGORY = 9
    CREATOR_BY_AGE_GENDER = 10
    CREATOR_BY_REGION = 11
    CATEGORY_BY_AGE_GENDER = 12
    CATEGORY_BY_INTEREST = 13
    CREATOR_BY_LAOTIE = 14
    CATEGORY_BY_CONTENT = 15


VIEWER_FEATURES = 6
"""Features 0..5 need the viewer and the slot only."""

# Columns of a viewer's keys: the six hashes above, then the viewer's half of each cross.
VIEWER_AGE_GENDER_OF_CREATOR = 6
VIEWER_REGION_OF_CREATOR = 7
VIEWER_AGE_GENDER_OF_CATEGORY = 8
VIEWER_CONTENT_OF_CATEGORY = 9
VIEWER_KEYS = 10

# Columns of a campaign's keys: four hashes, the campaign's half of each cross, and both hashes of each one-bit cross.
CAMPAIGN_CAMPAIGN = 0
CAMPAIGN_CREATOR = 1
CAMPAIGN_CREATIVE = 2
CAMPAIGN_CATEGORY = 3
CAMPAIGN_CREATOR_OF_AGE_GENDER = 4
CAMPAIGN_CREATOR_OF_REGION = 5
CAMPAIGN_CATEGORY_OF_AGE_GENDER = 6
CAMPAIGN_CATEGORY_OF_CONTENT = 7
CAMPAIGN_NO_INTEREST = 8
CAMPAIGN_INTEREST = 9
CAMPAIGN_NO_LAOTIE = 10
CAMPAIGN_LAOTIE = 11
CAMPAIGN_KEYS = 12

# Columns of a viewer's attribute codes that features use (numbers of `targeting.attributes.Dimension`).
DIM_REGION = 0
DIM_AGE_BAND = 1
DIM_GENDER = 2
DIM_CONTENT_CATEGORY = 6
DIM_PLACEMENT = 7

NOISE_VARIANCE = 1.0
"""beta^2 of adPredictor: the variance of what no feature explains; fixes the unit of every weight."""

PRIOR_VARIANCE = 1.0
"""Of a weight, before its feature's scale."""

SLOT_AVERAGE, SLOT_VARIANCE, SLOT_MEAN, SLOT_ROWS = range(4)
"""Columns of a slot: average of the means that its weight had, variance, present mean, rows learned. A model is made of
the first two."""
SLOT_COLUMNS = 4

PRIOR_SD = (
    0.30,  # bias: how wrong the configured rate may be
    0.05,  # region
    0.05,  # age band
    0.05,  # gender
    0.10,  # hour
    0.05,  # placement
    0.04,  # campaign
    0.18,  # creator
    0.06,  # creative
    0.10,  # category
    0.08,  # creator by age and gender
    0.08,  # creator by region
    0.08,  # category by age and gender
    0.12,  # category by interest
    0.10,  # creator by laotie
    0.05,  # category by content
)
"""Prior standard deviation of each feature's effect, in units of the noise; by `Feature`."""

SCALES = np.array(PRIOR_SD, np.float64)
SCALES.setflags(write=False)
"""f8[16]. A feature enters the score as scale times weight, so one prior variance serves every slot of the table."""

PRIOR_SCORE_VARIANCE = float(np.sum(SCALES * SCALES) * PRIOR_VARIANCE)
"""Variance of the score of an impression whose sixteen features were never seen."""
