variable "name" {
  description = "The bucket's name."
  type        = string
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
  description = "Log files move to STANDARD_IA after so many days; null: never."
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

variable "notification" {
  description = "The function that each new file, manifest and episode object starts, and the permission to call it, after which the notification is set; null: none."
  type = object({
    function_arn  = string
    permission_id = string
  })
  default = null
}
