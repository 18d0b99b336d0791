-- Decides billable claims of one campaign, in order, behind epoch.lua and days.lua.
--
-- KEYS: 1 account, 2 ends, 3 epoch, then leases, without repetition.
-- ARGV: 1 campaign_id, 2 how long a tombstone is kept, in ms, 3 the claims, 26 bytes each, little-endian: number of the
--       lease among the KEYS, from 1 (u2), hold_seq (u8), amount (i8), teller (u8: who tells it; 0: nobody in particular);
--       4 whether they are known to be charged (0, 1): those that this store lost are then charged whatever the caps say now;
--       5 quarantine in ms, 6 by how much clocks may differ, in ms, 7 owner_id; then per lease, to rebuild it if it is lost:
--       lease_id, day_key, and issued_at_ms of its first bid.
-- Answer: a digit per claim: 1 charged, 2 duplicate, 3 conflict, 4 over-delivery; 0 not decided, ask again: after a failover, and
--         until every owner has said what it has, money may look leased that was given back, and a claim on a bid from before
--         may have been charged already, as another owner told it; 5 there is no such account.
-- Hashes: see set_caps.lua and acquire.lua.
--
-- An owner asks in the order of its rows, and tells them again in that order; so told:<owner_id>, 'ROW' or 'ROW:EPOCH:LATE',
-- says up to which row the account has all that the owner charged to it, also when the leases are long forgotten: up to ROW;
-- and once the owner has told again, in EPOCH or later, what a failover had lost, up to LATE. An owner that is not in the epoch
-- is entered, as set_caps.lua does.
--
-- An owner that has told again in this epoch has had every later charge from here. So if it tells a row again that is not known,
-- that was lost without another replication id: old keys were put back here. That begins an epoch, too.

local account, ends = KEYS[1], KEYS[2]
local blob, bytes, is_known = ARGV[3], 26, ARGV[4] == '1'
local nobody = string.rep('\0', 8)
local read, sub = struct.unpack, string.sub
local out = {}

local told_field = 'told:' .. ARGV[7]
local found = redis.call('HMGET', account, 'daily', 'total', 'settled', 'leased', told_field)
if not found[1] then
    return string.rep('5', #blob / bytes)
end
local daily, total, settled, leased = tonumber(found[1]), tonumber(found[2]), tonumber(found[3]), tonumber(found[4])
local day_of, days = days_of(account, daily)
local leases = {}

-- Each lease, and what is known of the claims on it, in one read per lease.
for j = 1, #KEYS - 3 do
    leases[j] = {key = KEYS[j + 3], fields = {'campaign_id', 'day_key', 'remaining', 'closed'}, n = 4, told = {}}
end
for pos = 1, #blob, bytes do
    local j, seq = read('<I2c8', blob, pos)
    local lease = leases[j]
    lease.n = lease.n + 1
    lease.fields[lease.n] = seq
end
for j, lease in ipairs(leases) do
    local stored = redis.call('HMGET', lease.key, unpack(lease.fields))
    lease.stored, lease.at, lease.writes = stored, 4, {}
    lease.issued_at_ms = tonumber(ARGV[10 + 3 * (j - 1)])
    lease.day_key, lease.is_closed = stored[2], stored[4] == '1'
    lease.remaining = tonumber(stored[3] or 0)
    lease.is_foreign = stored[1] and stored[1] ~= ARGV[1]
    if not stored[1] then
        local at = 8 + 3 * (j - 1)
        lease.day_key, lease.is_closed = ARGV[at + 1], true
        lease.writes = {
            'campaign_id', ARGV[1], 'day_key', ARGV[at + 1], 'amount', 0, 'start', ARGV[at + 2], 'end', ARGV[at + 2]
        }
    end
end

local over = {}
local epoch = note_epoch(KEYS[3], tonumber(ARGV[5]))
local may_lack_writes = epoch.refused_ms > 0 or #epoch.behind > 0
local told_again = epoch.owners[ARGV[7]]
if not told_again then
    told_again = may_lack_writes and epoch.number - 1 or epoch.number
end
local told_to, late_epoch, late = string.match(found[5] or '', '^(%d+):?(%d*):?(%d*)$')
told_to, late_epoch, late = tonumber(told_to or 0), tonumber(late_epoch or ''), tonumber(late or '')
if late_epoch and told_again >= late_epoch then
    told_to, late_epoch, late = math.max(told_to, late), nil, nil
end
local waits_before_ms = #epoch.behind > 0 and epoch.since_ms + tonumber(ARGV[6]) or 0

local function decide(lease, amount)
    local day = lease.day or day_of(lease.day_key)
    local from_pool = amount - lease.remaining
    if not is_known and lease.issued_at_ms < waits_before_ms then
        return '0'
    end
    local free = math.min(total - settled - leased, day.cap - day.settled - day.leased)
    if not is_known and from_pool > 0 and from_pool > free then
        if may_lack_writes then
            return '0'
        end
        lease.day = day
        over[#over + 1] = amount
        return '4'
    end
    lease.day = day
    local from_lease = math.min(amount, lease.remaining)
    lease.remaining = lease.remaining - from_lease
    leased, day.leased = leased - from_lease, day.leased - from_lease
    settled, day.settled = settled + amount, day.settled + amount
    return '1'
end

local last_row, has_undecided, was_lost = 0, false, false

for pos = 1, #blob, bytes do
    local j, seq, amount, teller = read('<I2c8i8c8', blob, pos)
    local row = read('<I6', blob, pos + 18)
    local lease = leases[j]
    lease.at = lease.at + 1
    local before = lease.told[seq] or lease.stored[lease.at]
    local verdict
    if lease.is_foreign then
        verdict = '4'
    elseif not before and is_known and row > 0 and row <= told_to then
        verdict = '1'
    elseif not before then
        verdict = decide(lease, amount)
        was_lost = was_lost or is_known
        if verdict ~= '0' then
            local told = sub(blob, pos + 10, pos + 25) .. verdict
            local writes, at = lease.writes, #lease.writes
            writes[at + 1], writes[at + 2] = seq, told
            lease.told[seq] = told
        end
    elseif sub(before, 1, 8) ~= sub(blob, pos + 10, pos + 17) then
        verdict = '3'
    elseif teller ~= nobody and sub(before, 9, 16) == teller then
        verdict = sub(before, 17)
    else
        verdict = '2'
    end
    out[#out + 1] = verdict
    has_undecided = has_undecided or verdict == '0'
    last_row = has_undecided and last_row or math.max(last_row, row)
end

for _, amount in ipairs(over) do
    redis.call('HINCRBY', account, 'over', amount)
end
for j, lease in ipairs(leases) do
    if lease.day then
        local writes, at = lease.writes, #lease.writes
        writes[at + 1], writes[at + 2] = 'remaining', lease.remaining
        writes[at + 3], writes[at + 4] = 'closed', lease.is_closed and 1 or 0
        redis.call('HSET', lease.key, unpack(writes))
        if lease.is_closed and lease.remaining == 0 then
            redis.call('PEXPIRE', lease.key, ARGV[2])
            redis.call('ZREM', ends, ARGV[8 + 3 * (j - 1)])
        end
    end
end
if was_lost and told_again >= epoch.number then
    redis.call(
        'HSET', KEYS[3], 'number', epoch.number + 1, 'since_ms', epoch.now_ms,
        'refuse_until_ms', epoch.now_ms + tonumber(ARGV[5])
    )
end
if not epoch.owners[ARGV[7]] then
    redis.call('HSET', KEYS[3], 'owner:' .. ARGV[7], told_again)
end
if is_known or told_again >= epoch.number then
    told_to = math.max(told_to, last_row)
elseif last_row > 0 then
    late_epoch, late = epoch.number, math.max(late or 0, last_row)
end
local told = string.format('%.0f', told_to)
if late then
    told = string.format('%.0f:%.0f:%.0f', told_to, late_epoch, late)
end
local writes = {'settled', settled, 'leased', leased, told_field, told}
for day_key, day in pairs(days) do
    local at = #writes
    writes[at + 1], writes[at + 2] = 'cap:' .. day_key, day.cap
    writes[at + 3], writes[at + 4] = 'settled:' .. day_key, day.settled
    writes[at + 5], writes[at + 6] = 'leased:' .. day_key, day.leased
end
redis.call('HSET', account, unpack(writes))
return table.concat(out)
