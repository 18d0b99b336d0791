-- Read ahead of other scripts: notices that this master is not the one that the last grants came from.
--
-- A master that took over may lack what its predecessor wrote last, leases and settled claims above all: money that is out
-- or gone, and looks free. So a changed replication id starts a new epoch. In it nothing is granted for a while, and not
-- before every owner of a ledger that had grants here has settled its claims again.
--
-- Epoch hash: replid, number, since_ms and refuse_until_ms (on this server's clock; 0: no refusal), told_at_ms (when an owner settled
-- again last), and for each such owner owner:<owner_id>, the last epoch in which it has settled again.

local function note_epoch(key, quarantine_ms)
    local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    local time = redis.call('TIME')
    local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    local epoch = {number = 0, since_ms = 0, refuse_until_ms = 0, told_at_ms = 0, behind = {}, owners = {}}
    local known_replid
    local flat = redis.call('HGETALL', key)
    for i = 1, #flat, 2 do
        local owner = string.match(flat[i], '^owner:(%d+)$')
        if owner then
            epoch.owners[owner] = tonumber(flat[i + 1])
        elseif flat[i] == 'replid' then
            known_replid = flat[i + 1]
        else
            epoch[flat[i]] = tonumber(flat[i + 1])
        end
    end
    if known_replid ~= replid then
        epoch.number = epoch.number + 1
        if known_replid then
            epoch.since_ms, epoch.refuse_until_ms = now_ms, now_ms + quarantine_ms
        end
        redis.call(
            'HSET', key, 'replid', replid, 'number', epoch.number, 'since_ms', epoch.since_ms,
            'refuse_until_ms', epoch.refuse_until_ms
        )
    end
    for owner, number in pairs(epoch.owners) do
        if number < epoch.number then
            epoch.behind[#epoch.behind + 1] = tonumber(owner)
        end
    end
    epoch.now_ms = now_ms
    epoch.refused_ms = math.max(0, epoch.refuse_until_ms - now_ms)
    return epoch
end

