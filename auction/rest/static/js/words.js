// Every sentence of the page, in English and Chinese.

const WORDS = {
  en: {
    skip: "Skip to the figures", api: "API", signOut: "Sign out", otherLanguage: "中文", dark: "Dark", light: "Light",
    welcome: "Grow your fans", welcomeText: "See what every cent of your campaigns buys, as it happens. Paste the access token you were given to begin.",
    token: "Access token", open: "Open my desk", tokenHelp: "It stays in this tab only. An operator makes one with: fanbid token create",
    tokenRefused: "This token is not valid any more, or was mistyped. Paste it again.",
    tokenOfOthers: "This token is not a creator's or an operator's, so there is nothing for it to see here. Paste another.",
    loading: "Loading your campaigns …", loadingFigures: "Loading figures …",
    stateLive: "Live", stateConnecting: "Connecting …", stateLost: "Connection lost. Trying again …",
    grants_failover: "No new money is released for bids until {time}: the shared Redis was restarted or replaced. What was released before is still bid.",
    grants_owners: "No new money is released for bids until every server has said what it had spent. What was released before is still bid.",
    grants_away: "The shared Redis cannot be used now: no new money is released for bids, and campaigns cannot be changed. What was released before is still bid.",
    grants_foreign: "The shared Redis has lost what it held, or is another one: no new money is released for bids, and campaigns cannot be changed. An operator must put it right; the server's log says how.",
    failedLoad: "Your campaigns could not be loaded: {why}", failedAction: "That did not work: {why}", noAnswer: "the server does not answer",
    again: "Try again", campaigns: "Campaigns", newCampaign: "New campaign",
    noneTitle: "No campaigns yet", noneText: "Pick a video, say what a fan is worth to you, and the first viewers see it within seconds.",
    active: "Running", paused: "Paused", ended: "Ended", scheduled: "Scheduled",
    pause: "Pause", resume: "Resume", end: "End", editBudget: "Budget", close: "Close", cancel: "Cancel", save: "Save",
    ofBudget: "{spent} of {budget}", creator: "Creator {id}", zoneNote: "days and hours of {zone}",
    goal_plays: "Plays", goal_fans: "Fans", goal_profile_visits: "Profile visits", goal_product_clicks: "Product clicks",
    goal_live_visits: "Live visits", goal_orders: "Orders", goal_kept_fans: "Fans who stay",
    why_plays: "People watch it", why_fans: "People follow you", why_profile_visits: "People look at your page",
    why_product_clicks: "People tap your products", why_live_visits: "People join your live", why_orders: "People buy", why_kept_fans: "Still fans after 30 days",
    one_plays: "play", one_fans: "fan", one_profile_visits: "profile visit", one_product_clicks: "product click",
    one_live_visits: "live visit", one_orders: "order", one_kept_fans: "kept fan",
    spendToday: "Spent today", spendTotal: "Spent in all", impressions: "Impressions", clickRate: "Click rate", plays: "Plays",
    perThousand: "Cost per thousand", fans: "New fans", costPer: "Cost per {one}", today: "today",
    planSoFar: "plan so far {plan}", inAll: "{value} in all", todayIs: "{value} today", ofTotal: "of {budget}",
    targetIs: "target {target}", noTarget: "automatic: as many as the budget buys", expectedIs: "expected {value}", keptIs: "{expected} expected to stay, {kept} stayed 30 days, {lost} left",
    nothingYet: "nothing yet", unfollowed: "{n} left again", bidsMade: "{n} bids since the server started",
    statement: "Download statement (CSV)", statementWhy: "Every charge: price, bid, floor, and what the impression was worth to you",
    trueAt: "Every figure is true at ledger row {row}, {time}.", trueAtAll: "Every figure is true at these rows of the servers' ledgers (server#row): {rows}, {time}.",
    overDelivered: "{amount} was shown free of charge: our loss, not yours.",
    chartSpend: "Spend against plan", chartCost: "Cost per {one} against target", chartImpressions: "Impressions an hour",
    chartClickRate: "Click rate", chartPlays: "Plays an hour", chartPerThousand: "Cost per thousand", chartFans: "New fans an hour",
    keySpent: "spent", keyPlan: "plan", keyBudget: "daily budget", keyPaid: "paid", keyExpected: "expected", keyTarget: "target",
    dayBegins: "Each day starts at zero.", hours24: "24 hours", hours48: "48 hours", hours168: "7 days",
    chartEmpty: "Nothing yet. The line starts with the first impression.", noSpend: "Nothing spent yet.", noResults: "No results yet to divide the spend by.",
    noFans: "No new fans yet.", noClicks: "No clicks yet.", noPlays: "No plays yet.", chartLabel: "{title}: {value}.",
    figuresTable: "Hour by hour, as a table", hour: "Hour", aboutCampaign: "About this campaign", audience: "Audience", schedule: "Schedule",
    videos: "Videos", bidding: "Bidding", everybody: "Everybody", withFans: "present fans included", withoutFans: "present fans left out",
    fromTo: "{from} to {to}", fromOn: "From {from}, without an end", automatic: "Automatic", targetCost: "Target cost", total: "Total budget", daily: "Daily budget",
    or: "or", and: "and", not: "not ", interests: "Interests", segment: "segment {name}", fansOf: "fans of {ids}", laotie: "friends of your fans",
    region: "Region", age_band: "Age", gender: "Gender", os: "System", network: "Network", device_tier: "Device", content_category: "Watching", placement: "Placement",
    endTitle: "End “{name}” for good?", endText: "It stops bidding at once and cannot be started again. Its figures stay.", endYes: "End it",
    budgetTitle: "Budget of “{name}”", budgetHelp: "A cut never takes back what is spent or promised already.",
    budgetSaved: "Saved. In force now: {daily} a day, {total} in all.", budgetWaits: "Saved. {daily} a day and {total} in all stay in force for now: that much is spent or promised already.",
    conflict: "Somebody changed this campaign meanwhile. It was loaded again; please look and repeat.",
    paused_done: "Paused. No new bids are made.", resumed_done: "Running again.", ended_done: "Ended.", created_done: "“{name}” is running. First figures come with the first bids.",
    formTitle: "New campaign", fName: "Name", fNameHelp: "Only you see it.", fGoal: "What do you want?", fVideo: "Video", fVideoId: "Video number", fVideoTitle: "Title (optional)", fCategory: "Topic", unknown: "Unknown",
    fMoney: "Money", fDaily: "Daily budget", fTotal: "Total budget", fMode: "How to bid", fTarget: "At most, per {one}", modeAutomatic: "Automatic", modeTarget: "Target cost", modeAutomaticWhy: "As many as the budget buys", modeTargetWhy: "On average no dearer than you say",
    fAudience: "Who should see it?", fAudienceHelp: "Nothing chosen means everybody.", fLaotie: "Only friends of your fans (laotie)", fFans: "Show it to your present fans too",
    fMore: "More settings", fZone: "Time zone", fZoneHelp: "Budget days are its days. It cannot change later.", fDays: "Run for how many days? (empty: until you end it)", fCap: "Most views per person and day (empty: the default)", fCreator: "Creator number (operators)",
    start: "Start campaign", starting: "Starting …", saving: "Saving …",
    badAmount: "Please write an amount such as 300 or 12.50.", badNumber: "Please write a whole number.", badTotal: "The total budget must be at least the daily budget.",
    codeNumber: "No. {code}",
  },
  zh: {
    skip: "跳到数据", api: "接口", signOut: "退出", otherLanguage: "English", dark: "深色", light: "浅色",
    welcome: "让更多人成为你的粉丝", welcomeText: "每一分钱买到了什么，实时看得见。请粘贴你拿到的访问令牌。",
    token: "访问令牌", open: "打开我的工作台", tokenHelp: "只保存在当前标签页。运营人员可用命令生成：fanbid token create",
    tokenRefused: "令牌无效或已被撤销，请重新粘贴。",
    tokenOfOthers: "这不是创作者或运营人员的令牌，在这里看不到数据。请换一个令牌。",
    loading: "正在加载投放计划……", loadingFigures: "正在加载数据……",
    stateLive: "实时", stateConnecting: "正在连接……", stateLost: "连接断开，正在重试……",
    grants_failover: "{time} 之前不发放新的出价额度：共用的 Redis 重启过或已被替换。已发放的额度仍可继续出价。",
    grants_owners: "每台服务器报清已花金额之前，不发放新的出价额度。已发放的额度仍可继续出价。",
    grants_away: "暂时无法使用共用的 Redis：不发放新的出价额度，也不能修改投放计划。已发放的额度仍可继续出价。",
    grants_foreign: "共用的 Redis 丢失了原有内容，或换成了另一个：不发放新的出价额度，也不能修改投放计划。需要运维人员处理，做法见服务器日志。",
    failedLoad: "投放计划加载失败：{why}", failedAction: "操作没有成功：{why}", noAnswer: "服务器没有回应",
    again: "重试", campaigns: "投放计划", newCampaign: "新建投放",
    noneTitle: "还没有投放计划", noneText: "选一条视频，说出一个粉丝对你值多少钱，几秒后就会有人看到。",
    active: "投放中", paused: "已暂停", ended: "已结束", scheduled: "未开始",
    pause: "暂停", resume: "继续", end: "结束", editBudget: "预算", close: "关闭", cancel: "取消", save: "保存",
    ofBudget: "{spent} / {budget}", creator: "创作者 {id}", zoneNote: "按 {zone} 的日期和时间",
    goal_plays: "播放", goal_fans: "涨粉", goal_profile_visits: "主页访问", goal_product_clicks: "商品点击",
    goal_live_visits: "进直播间", goal_orders: "订单", goal_kept_fans: "留存粉丝",
    why_plays: "让更多人看到", why_fans: "让更多人关注你", why_profile_visits: "让更多人来主页", why_product_clicks: "让更多人点商品",
    why_live_visits: "让更多人进直播间", why_orders: "让更多人下单", why_kept_fans: "30 天后仍在关注",
    one_plays: "次播放", one_fans: "个粉丝", one_profile_visits: "次主页访问", one_product_clicks: "次商品点击",
    one_live_visits: "次进直播间", one_orders: "笔订单", one_kept_fans: "个留存粉丝",
    spendToday: "今日花费", spendTotal: "累计花费", impressions: "曝光", clickRate: "点击率", plays: "播放", perThousand: "千次曝光成本", fans: "新增粉丝", costPer: "每{one}成本", today: "今日",
    planSoFar: "此刻计划 {plan}", inAll: "累计 {value}", todayIs: "今日 {value}", ofTotal: "总预算 {budget}",
    targetIs: "目标 {target}", noTarget: "自动出价：预算内尽量多", expectedIs: "预估 {value}", keptIs: "预计留存 {expected} 人，已满 30 天 {kept} 人，已取关 {lost} 人", nothingYet: "暂无数据", unfollowed: "{n} 人取关", bidsMade: "服务启动以来出价 {n} 次",
    statement: "下载对账单（CSV）", statementWhy: "每一笔扣费：成交价、出价、底价，以及这次曝光值多少",
    trueAt: "所有数据截至账本第 {row} 行，{time}。", trueAtAll: "所有数据截至各服务器账本的以下行（服务器#行）：{rows}，{time}。",
    overDelivered: "另有 {amount} 的曝光未收费，由平台承担。",
    chartSpend: "花费与计划", chartCost: "每{one}成本与目标", chartImpressions: "每小时曝光", chartClickRate: "点击率", chartPlays: "每小时播放", chartPerThousand: "千次曝光成本", chartFans: "每小时新增粉丝",
    keySpent: "花费", keyPlan: "计划", keyBudget: "日预算", keyPaid: "实际", keyExpected: "预估", keyTarget: "目标",
    dayBegins: "每天从零开始累计。", hours24: "24 小时", hours48: "48 小时", hours168: "7 天",
    chartEmpty: "还没有数据，有了第一次曝光就会开始。", noSpend: "还没有花费。", noResults: "还没有效果，暂时算不出成本。",
    noFans: "还没有新增粉丝。", noClicks: "还没有点击。", noPlays: "还没有播放。", chartLabel: "{title}：{value}。",
    figuresTable: "按小时查看表格", hour: "时间", aboutCampaign: "投放设置", audience: "人群", schedule: "排期", videos: "视频", bidding: "出价",
    everybody: "所有人", withFans: "包含现有粉丝", withoutFans: "不包含现有粉丝", fromTo: "{from} 至 {to}", fromOn: "{from} 开始，长期投放", automatic: "自动出价", targetCost: "目标成本", total: "总预算", daily: "日预算",
    or: "或", and: "且", not: "非", interests: "兴趣", segment: "人群包 {name}", fansOf: "{ids} 的粉丝", laotie: "老铁（粉丝的朋友）",
    region: "地区", age_band: "年龄", gender: "性别", os: "系统", network: "网络", device_tier: "设备", content_category: "正在看", placement: "广告位",
    endTitle: "确定结束“{name}”？", endText: "将立即停止出价，且不能重新开始。数据会保留。", endYes: "结束",
    budgetTitle: "“{name}”的预算", budgetHelp: "调低预算不会收回已经花掉或已承诺的部分。",
    budgetSaved: "已保存。当前生效：每天 {daily}，总共 {total}。", budgetWaits: "已保存。暂时仍按每天 {daily}、总共 {total} 执行：这部分已经花掉或已承诺。",
    conflict: "这个计划刚被改动过，已重新加载，请确认后再操作。",
    paused_done: "已暂停，不再出新价。", resumed_done: "已继续投放。", ended_done: "已结束。", created_done: "“{name}”已开始投放，有出价后就会看到数据。",
    formTitle: "新建投放", fName: "名称", fNameHelp: "只有你能看到。", fGoal: "想要什么效果？", fVideo: "视频", fVideoId: "视频编号", fVideoTitle: "标题（可不填）", fCategory: "主题", unknown: "未知",
    fMoney: "预算与出价", fDaily: "日预算", fTotal: "总预算", fMode: "出价方式", fTarget: "每{one}最多", modeAutomatic: "自动出价", modeTarget: "目标成本", modeAutomaticWhy: "预算内尽量多", modeTargetWhy: "平均不超过你定的成本",
    fAudience: "给谁看？", fAudienceHelp: "不选就是所有人。", fLaotie: "只投老铁（粉丝的朋友）", fFans: "也给现有粉丝看",
    fMore: "更多设置", fZone: "时区", fZoneHelp: "预算按该时区的日期计算，之后不能修改。", fDays: "投放几天？（不填则一直投放）", fCap: "每人每天最多看到几次（不填用默认值）", fCreator: "创作者编号（运营人员）",
    start: "开始投放", starting: "正在创建……", saving: "正在保存……",
    badAmount: "请填写金额，例如 300 或 12.50。", badNumber: "请填写整数。", badTotal: "总预算不能低于日预算。", codeNumber: "{code} 号",
  },
};

const STORED = "fanbid.language";
let current = chosen();

function chosen() {
  const stored = localStorage.getItem(STORED);
  if (stored in WORDS) return stored;
  return (navigator.language || "").toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = () => (current === "zh" ? "zh-CN" : "en");
export const isChinese = () => current === "zh";

/** Switch to the other language, and remember it. */
export function switchLanguage() {
  current = current === "zh" ? "en" : "zh";
  localStorage.setItem(STORED, current);
}

/** The sentence of this name, with {placeholders} filled in. */
export function word(name, values = {}) {
  const text = WORDS[current][name] ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, key) => (key in values ? values[key] : whole));
}
