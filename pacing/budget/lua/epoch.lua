-- Read ahead of acquire.lua and note_epoch.lua: notices that this master is not the one that the last grants came from.
--
-- A master that took over may lack what its predecessor wrote last, leases above all: money that is out, and looks free.
-- So a changed replication id starts a new epoch, in which nothing is granted for a while.
--
-- Epoch hash: replid, number, refuse_until_ms (on this server's clock; 0: no refusal).

local function note_epoch(key, quarantine_ms)
    local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    local time = redis.call('TIME')
    local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    local known = redis.call('HMGET', key, 'replid', 'number', 'refuse_until_ms')
    local number, refuse_until_ms = tonumber(known[2] or 0), tonumber(known[3] or 0)
    if known[1] ~= replid then
        number = number + 1
        if known[1] then
            refuse_until_ms = now_ms + quarantine_ms
        end
        redis.call('HSET', key, 'replid', replid, 'number', number, 'refuse_until_ms', refuse_until_ms)
    end
    return number, math.max(0, refuse_until_ms - now_ms)
end

