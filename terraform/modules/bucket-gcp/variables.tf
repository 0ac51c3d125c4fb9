variable "name" {
  description = "The bucket's name, free in all of Google Cloud."
  type        = string
}

variable "location" {
  description = "Where it is."
  type        = string
  default     = "EUROPE-WEST1"
}

variable "prefix" {
  description = "Put before every key; ends with '/' or is empty."
  type        = string
  default     = ""
}

variable "force_destroy" {
  description = "Whether a bucket with files in it may be destroyed."
  type        = bool
  default     = false
}

variable "abort_multipart_days" {
  description = "An upload that nobody finished is dropped after so many days."
  type        = number
  default     = 1
}

variable "transition_days" {
  description = "Log files move to NEARLINE after so many days; null: never."
  type        = number
  default     = 90
}

variable "expire_days" {
  description = "Log files are deleted after so many days; null: never."
  type        = number
  default     = 365
}

variable "noncurrent_expire_days" {
  description = "Old versions are deleted after so many days."
  type        = number
  default     = 7
}

variable "exporter_account_id" {
  description = "The exporter's service account."
  type        = string
  default     = "smartlog-exporter"
}
