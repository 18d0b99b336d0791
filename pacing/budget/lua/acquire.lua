-- Grants leases of one campaign, in order, behind epoch.lua and days.lua.
--
-- KEYS: 1 account, 2 ends, 3 epoch, then one lease per request.
-- ARGV: 1 campaign_id, 2 quarantine in ms, 3 share and 4 bids of g_max, 5 owner_id;
--       then per request: lease_id, day_key, start_at_ms, end_at_ms, want, least.
-- Answer: the amount granted to each request, 0 for none. A lease that exists gets the amount that it got before, if it is
--         the same request: a holder that died before it heard of a lease may ask for another under the same id.
--
-- Lease hash: campaign_id, day_key, amount, remaining, start, end, closed (0, 1), serial and answer of the last release;
-- and each claim told: its hold_seq in 8 bytes -> amount, teller (8 bytes each), verdict (1 digit). So no field that is
-- named here may have 8 letters.
-- Ends: sorted set of the lease ids whose money is not all back, by end_at_ms.

local account, ends = KEYS[1], KEYS[2]
local share, bids = tonumber(ARGV[3]), tonumber(ARGV[4])
local answers = {}

local found = redis.call('HMGET', account, 'daily', 'total', 'settled', 'leased')
if not found[1] then
    for i = 4, #KEYS do
        answers[i - 3] = 0
    end
    return answers
end
local daily, total, settled, leased = tonumber(found[1]), tonumber(found[2]), tonumber(found[3]), tonumber(found[4])
local epoch = note_epoch(KEYS[3], tonumber(ARGV[2]))
local is_hungry = false
local is_refused, has_granted = epoch.refused_ms > 0 or #epoch.behind > 0, false
local day_of, days = days_of(account, daily)

local function grant(key, at)
    local before = redis.call('HMGET', key, 'amount', 'start')
    if before[1] then
        return before[2] == ARGV[at + 2] and tonumber(before[1]) or 0
    end
    local day = day_of(ARGV[at + 1])
    if is_refused then
        return 0
    end
    local want, least = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    local free = math.max(0, math.min(total - settled - leased, day.cap - day.settled - day.leased))
    local amount = math.min(want, free, math.max(math.floor(free / share), bids * least))
    if amount < math.max(1, least) then
        is_hungry = true
        return 0
    end
    has_granted = true
    leased, day.leased = leased + amount, day.leased + amount
    redis.call(
        'HSET', key, 'campaign_id', ARGV[1], 'day_key', ARGV[at + 1], 'amount', amount, 'remaining', amount,
        'start', ARGV[at + 2], 'end', ARGV[at + 3], 'closed', 0
    )
    redis.call('ZADD', ends, ARGV[at + 3], ARGV[at])
    return amount
end

for i = 4, #KEYS do
    answers[i - 3] = grant(KEYS[i], 6 + 6 * (i - 4))
end
if has_granted and not epoch.owners[ARGV[5]] then
    redis.call('HSET', KEYS[3], 'owner:' .. ARGV[5], epoch.number)
end
local writes = {'leased', leased}
if is_hungry then
    redis.call('HINCRBY', account, 'hunger', 1)
    writes = {'leased', leased, 'hungry_owner', ARGV[5]}
end
for day_key, day in pairs(days) do
    local at = #writes
    writes[at + 1], writes[at + 2] = 'cap:' .. day_key, day.cap
    writes[at + 3], writes[at + 4] = 'leased:' .. day_key, day.leased
end
redis.call('HSET', account, unpack(writes))
return answers
