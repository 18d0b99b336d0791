// Names for this deployment's codes, as [English, Chinese]. A platform with other codes replaces this file; a code that is not
// here is shown by its number. Interests and content categories share their codes.
import { isChinese, word } from "./words.js";

const TOPICS = {
  1: ["Dance", "舞蹈"], 2: ["Music", "音乐"], 3: ["Comedy", "搞笑"], 4: ["Food", "美食"], 5: ["Beauty", "美妆"], 6: ["Fashion", "穿搭"],
  7: ["Travel", "旅行"], 8: ["Sports", "运动"], 9: ["Fitness", "健身"], 10: ["Games", "游戏"], 11: ["Anime", "动漫"], 12: ["Film and series", "影视"],
  13: ["Pets", "萌宠"], 14: ["Parenting", "亲子"], 15: ["Home", "家居"], 16: ["Cars", "汽车"], 17: ["Technology", "科技"], 18: ["Learning", "知识"],
  19: ["Crafts", "手工"], 20: ["Farm life", "三农"], 21: ["Photography", "摄影"], 22: ["Health", "健康"], 23: ["Everyday life", "日常"], 24: ["Shopping", "好物"],
};
const AGES = {
  1: ["Under 18", "18 岁以下"], 2: ["18–23", "18–23 岁"], 3: ["24–30", "24–30 岁"], 4: ["31–40", "31–40 岁"], 5: ["41–49", "41–49 岁"],
  6: ["50–59", "50–59 岁"], 7: ["60 and over", "60 岁以上"],
};
const GENDERS = { 1: ["Women", "女"], 2: ["Men", "男"], 3: ["Others", "其他"] };
const REGIONS = {
  1: ["Beijing", "北京"], 2: ["Tianjin", "天津"], 3: ["Hebei", "河北"], 4: ["Shanxi", "山西"], 5: ["Inner Mongolia", "内蒙古"], 6: ["Liaoning", "辽宁"],
  7: ["Jilin", "吉林"], 8: ["Heilongjiang", "黑龙江"], 9: ["Shanghai", "上海"], 10: ["Jiangsu", "江苏"], 11: ["Zhejiang", "浙江"], 12: ["Anhui", "安徽"],
  13: ["Fujian", "福建"], 14: ["Jiangxi", "江西"], 15: ["Shandong", "山东"], 16: ["Henan", "河南"], 17: ["Hubei", "湖北"], 18: ["Hunan", "湖南"],
  19: ["Guangdong", "广东"], 20: ["Guangxi", "广西"], 21: ["Hainan", "海南"], 22: ["Chongqing", "重庆"], 23: ["Sichuan", "四川"], 24: ["Guizhou", "贵州"],
  25: ["Yunnan", "云南"], 26: ["Tibet", "西藏"], 27: ["Shaanxi", "陕西"], 28: ["Gansu", "甘肃"], 29: ["Qinghai", "青海"], 30: ["Ningxia", "宁夏"],
  31: ["Xinjiang", "新疆"], 32: ["Taiwan", "台湾"], 33: ["Hong Kong", "香港"], 34: ["Macao", "澳门"],
};
const SYSTEMS = { 1: ["Android", "安卓"], 2: ["iOS", "iOS"], 3: ["Others", "其他"] };
const NETWORKS = { 1: ["Wi-Fi", "Wi-Fi"], 2: ["2G", "2G"], 3: ["3G", "3G"], 4: ["4G", "4G"], 5: ["5G", "5G"] };

const NAMES = {
  interests: TOPICS, content_category: TOPICS, age_band: AGES, gender: GENDERS, region: REGIONS, os: SYSTEMS, network: NETWORKS,
};

/** The name of one code of a dimension (or of `interests`). */
export function nameOf(dimension, code) {
  const names = NAMES[dimension]?.[code];
  if (names) return names[isChinese() ? 1 : 0];
  return code === 0 && dimension !== "interests" ? word("unknown") : word("codeNumber", { code });
}

/** The codes of a dimension that have names. */
export const codesOf = (dimension) => Object.keys(NAMES[dimension]).map(Number);
