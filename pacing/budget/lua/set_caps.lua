-- Opens a campaign's accounts, or changes their caps from one day on.
--
-- KEYS: 1 account, 2 epoch.
-- ARGV: 1 quarantine in ms, 2 creator_id, 3 zone, 4 daily cap, 5 total cap, 6 first day whose cap changes.
-- Answer: {zone of the account, daily cap in force, total cap in force}; nothing is written when the zone is another.
--
-- Account hash, amounts in micros: creator_id, zone, daily, total (caps asked for), settled, leased (of the flight),
-- over (over-delivered), and for each day cap:<day_key>, settled:<day_key>, leased:<day_key>.

local account = KEYS[1]
local from_day, daily, total = ARGV[6], tonumber(ARGV[4]), tonumber(ARGV[5])

local found = {}
local flat = redis.call('HGETALL', account)
for i = 1, #flat, 2 do
    found[flat[i]] = flat[i + 1]
end
if found.zone and found.zone ~= ARGV[3] then
    return {found.zone, 0, 0}
end

note_epoch(KEYS[2], tonumber(ARGV[1]))
local writes = {'daily', daily, 'total', total}
if not found.zone then
    for _, word in ipairs({'creator_id', ARGV[2], 'zone', ARGV[3], 'settled', 0, 'leased', 0, 'over', 0}) do
        writes[#writes + 1] = word
    end
end
found['cap:' .. from_day] = found['cap:' .. from_day] or ARGV[4]
for field in pairs(found) do
    local day_key = string.match(field, '^cap:(%d+)$')
    if day_key and tonumber(day_key) >= tonumber(from_day) then
        writes[#writes + 1] = field
        writes[#writes + 1] = daily
    end
end
redis.call('HSET', account, unpack(writes))

local function amount(field)
    return tonumber(found[field] or 0)
end
local day_used = amount('settled:' .. from_day) + amount('leased:' .. from_day)
return {ARGV[3], math.max(daily, day_used), math.max(total, amount('settled') + amount('leased'))}
