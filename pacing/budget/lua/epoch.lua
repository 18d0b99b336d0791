-- Read ahead of other scripts: notices that this master is not the one that the last grants came from.
--
-- A master that took over may lack what its predecessor wrote last, leases and settled claims above all: money that is out
-- or gone, and looks free. So a changed replication id starts a new epoch. In it nothing is granted for a while (the
-- quarantine), and not before every owner of a ledger that had grants or charges here has settled its claims again.
--
-- Epoch hash: replid, number, refuse_until_ms (on this server's clock; 0: no refusal), and for each such owner
-- told:<owner_id> and owner:<owner_id>, the last epoch in which it has told its charges again, and in which it has besides
-- settled all that it had accepted.

local function note_epoch(key, quarantine_ms)
    local replid = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
    local time = redis.call('TIME')
    local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    local epoch = {number = 0, refuse_until_ms = 0, behind = {}, owners = {}, untold = {}}
    local told = {}
    local known_replid
    local flat = redis.call('HGETALL', key)
    for i = 1, #flat, 2 do
        local noun, owner = string.match(flat[i], '^(%l+):(%d+)$')
        if noun == 'owner' then
            epoch.owners[owner] = tonumber(flat[i + 1])
        elseif noun == 'told' then
            told[owner] = tonumber(flat[i + 1])
        elseif flat[i] == 'replid' then
            known_replid = flat[i + 1]
        else
            epoch[flat[i]] = tonumber(flat[i + 1])
        end
    end
    if known_replid ~= replid then
        epoch.number = epoch.number + 1
        if known_replid then
            epoch.refuse_until_ms = now_ms + quarantine_ms
        end
        redis.call(
            'HSET', key, 'replid', replid, 'number', epoch.number, 'refuse_until_ms', epoch.refuse_until_ms
        )
    end
    for owner, number in pairs(epoch.owners) do
        if number < epoch.number then
            epoch.behind[#epoch.behind + 1] = tonumber(owner)
        end
        if (told[owner] or 0) < epoch.number then
            epoch.untold[#epoch.untold + 1] = tonumber(owner)
        end
    end
    epoch.refused_ms = math.max(0, epoch.refuse_until_ms - now_ms)
    return epoch
end

local function note_owner(key, epoch, owner)
    if not epoch.owners[owner] then
        redis.call('HSET', key, 'owner:' .. owner, epoch.number, 'told:' .. owner, epoch.number)
    end
end
